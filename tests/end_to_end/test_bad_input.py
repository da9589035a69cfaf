"""Bad input of every kind: a clear error with a hint, or a faithful record; nothing falls over."""

import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.hive_program import HiveProgram
from tests.end_to_end.installation import Installation, git, make_repository
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.printing import STDERR, STDOUT
from tests.end_to_end.waiting import until


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One hive and one node for all of these: what one test does must not matter to the next."""
    folder = tmp_path_factory.mktemp("bad")
    made = Installation(folder)
    try:
        made.found()
        made.add_node(repository=make_repository(folder / "project"))
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def still_running(installation: Installation) -> Iterator[None]:
    """Whatever was put in, hive and node are the same processes, and neither fell over."""
    programs = [installation.hive, installation.nodes[0]]
    before = [program.process.pid for program in programs if program.process]
    yield
    assert [program.process.pid for program in programs if program.process] == before
    assert all(program.running for program in programs)
    for program in programs:
        assert "Traceback" not in program.log, program.log[-3000:]


# --- credentials ----------------------------------------------------------------------------------


def test_join_tokens(installation: Installation) -> None:
    """A wrong, a used and an expired join token: each is told apart, each with what to do."""
    hive = installation.hive
    node = installation.new_node("nobody")
    error = node.refused("join", hive.url, "skepjoin_wrong")
    assert error["code"] in {"authentication_failed", "unauthenticated", "not_found", "forbidden"}
    assert "join-token" in error["hint"]
    used = installation.join_token()
    node.json("join", hive.url, used, "--name", "first")
    second = installation.new_node("second")
    error = second.refused("join", hive.url, used)
    assert "used" in error["message"]
    assert error["hint"]
    brief = hive.client.post("join-tokens", {"ttl_s": 1})
    until(lambda: time.time() * 1000 > brief["expires_at_ms"] + 50, "the token is out of date")
    error = second.refused("join", hive.url, brief["join_token"])
    assert "expired" in error["message"]
    assert error["hint"]
    # The same token with the same key is the same node: an answer that was lost does no harm.
    again = node.json("join", hive.url, used, "--name", "first")
    assert again["node_id"] == node.json("status")["node_id"]


def test_a_revoked_node(installation: Installation) -> None:
    """Its socket is closed, it says why, and it is refused when it comes back."""
    hive = installation.hive
    node = installation.add_node("shunned")
    assert node.wait_connected()
    assert hive.json("nodes", "revoke", "shunned")["status"] == "revoked"
    until(
        node.status,
        "the node's link is closed",
        holds=lambda status: not status["hive"]["connected"],
        # Before silence would end it.
        within_s=30.0,
    )
    node.stop()
    node.start()
    status = until(
        node.status, "the node knows why", holds=lambda status: status["hive"]["problem"]
    )
    assert "revoked" in status["hive"]["problem"]
    assert status["hive"]["hint"]
    assert hive.node("shunned")["status"] == "revoked"
    assert hive.node("node1")["status"] == "online"
    # Only an admin's fresh token takes it back, and then it dials at once.
    node.json("join", hive.url, installation.join_token(), "--name", "shunned")
    hive.wait_node("shunned")


# --- git and paths --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_links(installation: Installation) -> str:
    """An attempt whose worktree holds links that lead out of it."""
    command = "ln -s /etc/passwd absolute; ln -s ../../../.. up; mkdir d; ln -s ../absolute d/twice"
    command += "; ln -s /proc/self/environ environ; mkfifo pipe; echo fine > fine.txt"
    attempt = installation.run(
        "project", f"sh -c {shlex.quote(command)}", installation.nodes[0], "links"
    )
    installation.hive.wait_ended(attempt)
    return attempt


@pytest.mark.parametrize(
    "path",
    [
        "../README.md",
        "../../../../../../etc/passwd",
        "/etc/passwd",
        "d/../../x",
        "absolute",
        "d/twice",
        "up/etc/passwd",
        "environ",
        ".git",
        ".git/config",
        "d/./../.git/config",
        "pipe",
        "a\0b",
        "",
    ],
)
def test_paths_that_lead_out(path: str, with_links: str, installation: Installation) -> None:
    """No path, link, device or git folder leads a reader out of the attempt's worktree."""
    hive = installation.hive
    refused = {"outside", "not_found", "invalid", "not_a_directory"}
    if "\0" not in path:
        error = hive.refused("attempt", "cat", with_links, path) if path else {"code": ""}
        assert error["code"] in refused | {""}, error
        error = installation.nodes[0].refused("attempt", "cat", with_links, path or "..")
        assert error["code"] in refused, error
    # As it is, past what a command line or URL would make of it.
    connection = hive.client._connect(20)
    quoted = "".join(f"%{byte:02x}" for byte in path.encode()) or "%2e%2e"
    connection.request(
        "GET", f"/api/v1/attempts/{with_links}/files/{quoted}", headers=hive.client._headers()
    )
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    assert 400 <= reply.status < 500, (reply.status, body[:200])
    assert json.loads(body)["error"]["code"] in refused
    assert b"root:" not in body


def test_what_may_be_read(with_links: str, installation: Installation) -> None:
    """A file of the worktree is read, and links are listed as links."""
    hive = installation.hive
    assert hive.call("attempt", "cat", with_links, "fine.txt").stdout == "fine\n"
    kinds = {
        entry["name"]: entry["kind"]
        for entry in hive.json("attempt", "files", with_links)["entries"]
    }
    assert kinds["absolute"] == kinds["up"] == "symlink"
    assert kinds["fine.txt"] == "file"
    assert ".git" not in kinds


@pytest.mark.parametrize(
    "branch", ["--upload-pack=x", "-b", "a..b", "a b", "x.lock", "@{-1}", "refs/../x", "a\nb", "~1"]
)
def test_branches_that_are_no_names(branch: str, installation: Installation) -> None:
    """A branch that could be read as an option, or is no name, is refused naming the field."""
    hive, node = installation.hive, installation.nodes[0]
    task = installation.task("project")
    wanted = ["tasks", "run", task, "--node", "node1", "--command", "true"]
    error = hive.refused(*wanted, f"--base-branch={branch}")
    assert error["code"] == "invalid", error
    assert "branch" in error["message"] + json.dumps(error["details"])
    error = node.refused(
        *("start", "--project", "project", "--title", "T", "--command", "true"),
        f"--base-branch={branch}",
    )
    assert error["code"] == "invalid", error


def test_a_base_branch_that_is_an_option(installation: Installation) -> None:
    """Nor through the API, where no command line stands between."""
    from protocol.errors import SkepError

    with pytest.raises(SkepError) as refused:
        installation.hive.client.post(
            f"tasks/{installation.task('project')}/attempts",
            {"node_id": "node1", "command": "true", "base_branch": "--upload-pack=touch /tmp/x"},
        )
    assert refused.value.code == "invalid"
    assert refused.value.details["field"] == "base_branch"


def test_repositories_that_cannot_be_used(installation: Installation, tmp_path: Path) -> None:
    """No commits, no repository, nothing there, a bare one: each says what it is."""
    node = installation.nodes[0]
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q", "-b", "main")
    error = node.refused("checkout", "add", str(empty))
    assert (error["code"], bool(error["hint"])) == ("no_commits", True)
    (tmp_path / "plain").mkdir()
    for path in ("plain", "nothing"):
        error = node.refused("checkout", "add", str(tmp_path / path))
        assert (error["code"], bool(error["hint"])) == ("not_a_repository", True)


def test_a_checkout_of_another_repository(installation: Installation, tmp_path: Path) -> None:
    """A checkout that names a project of another repository is not mixed up with it."""
    node = installation.nodes[0]
    hive = installation.hive
    before = hive.client.get("projects/project")["checkouts"]
    other = make_repository(tmp_path / "unrelated")
    (other / "more").write_text("x")
    git(other, "add", "-A")
    git(other, "-c", "user.name=Other", "commit", "-q", "--amend", "-m", "another root")
    node.json("checkout", "add", str(other), "--project", "project")
    until(
        lambda: json.dumps(hive.json("events", "--node", "node1")["items"]),
        "the hive says that it is another repository",
        holds=lambda events: "project_mismatch" in events or "another repository" in events,
    )
    assert hive.client.get("projects/project")["checkouts"] == before
    node.json("checkout", "remove", str(other))


def test_commands_that_cannot_be_run(installation: Installation) -> None:
    """No such program, an empty line, an unclosed quote: a failed attempt or a refusal."""
    hive = installation.hive
    attempt = installation.run("project", "no-such-program --x", installation.nodes[0], "missing")
    ended = hive.wait_ended(attempt)
    assert ended["outcome"] == "failed"
    assert "no-such-program" in json.dumps(ended["reason"]) + json.dumps(ended["executions"])
    wanted = ("tasks", "run", installation.task("project"), "--node", "node1", "--command")
    for command in ("'unclosed", " "):
        assert hive.refused(*wanted, command)["code"] == "invalid"
    error = hive.refused(*wanted[:-1], "--executor", "nonesuch", "--prompt", "p")
    assert error["code"] == "executor_unavailable"
    assert "command" in error["hint"]


# --- output ---------------------------------------------------------------------------------------


def printed(installation: Installation, program: str, title: str) -> tuple[HiveProgram, dict, dict]:
    """Run a Python program as an attempt; return the hive, the attempt and its execution."""
    command = shlex.join([sys.executable, "-I", "-c", program])
    attempt = installation.run("project", command, installation.nodes[0], title)
    ended = installation.hive.wait_ended(attempt)
    (execution,) = ended["executions"]
    assert ended["outcome"] == "succeeded", ended
    return installation.hive, ended, execution


def test_a_line_of_20_megabytes(installation: Installation) -> None:
    """A line with no end is kept whole, shown cut, and takes no memory for its length."""
    program = "import os\nfor _ in range(200): os.write(1, b'0123456789' * 10_000)"
    hive, attempt, execution = printed(installation, program, "one line")
    assert hive.stream(execution["id"], STDOUT) == b"0123456789" * 2_000_000
    (line,) = hive.lines("attempts", "logs", attempt["id"])
    assert (line["cut"], line["bytes"]) == (True, 20_000_000)
    assert line["text"] == ("0123456789" * 6554)[: 64 * 1024]
    assert execution["log"]["entries"] == 1
    status = Path(f"/proc/{hive.process.pid if hive.process else 0}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) < 300_000, "kB at the most so far"


def test_bytes_of_every_kind(installation: Installation) -> None:
    """NUL, invalid UTF-8, colours and lone returns are kept as they came; text replaces them."""
    content = bytes(range(256)) * 3 + b"\n\xff\xfe\xed\xa0\x80\n\x1b[31mred\x1b[0m\rover\r\nend"
    program = f"import os; os.write(1, {content!r}); os.write(2, bytes(10))"
    hive, attempt, execution = printed(installation, program, "bytes")
    assert hive.stream(execution["id"], STDOUT) == content
    assert hive.stream(execution["id"], STDERR) == bytes(10)
    lines = hive.lines("attempts", "logs", attempt["id"])
    shown = [line["text"] for line in lines if line["stream"] == "stdout"]
    assert shown == content.decode("utf-8", "replace").split("\n")
    assert [line["text"] for line in lines if line["stream"] == "stderr"] == ["\0" * 10]
    assert hive.call("attempts", "logs", attempt["id"]).returncode == 0


def test_many_empty_lines(installation: Installation) -> None:
    """A million line ends in a few writes are a million entries, told quickly."""
    program = "import os\nfor _ in range(16): os.write(1, b'\\n' * 62_500)"
    hive, attempt, execution = printed(installation, program, "line ends")
    assert execution["log"]["entries"] == 1_000_000
    page = hive.client.get(f"executions/{execution['id']}/log", after=999_990, limit=100)
    assert [entry["n"] for entry in page["entries"]] == list(range(999_991, 1_000_001))
    assert page["closed"]
    assert attempt["sync_state"] == "complete"


# --- the API --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("tasks", b"{"),
        ("tasks", b"[]"),
        ("tasks", b'{"project": "project"}'),
        ("tasks", b'{"project": "project", "title": ""}'),
        ("tasks", b'{"project": "project", "title": 5}'),
        ("tasks", b'{"project": "project", "title": "T", "unknown": 1}'),
        ("tasks", b'{"project": "project", "title": "T", "type": "nonesuch"}'),
        ("tasks", b'{"project": "project", "title": "\xff"}'),
        ("tasks", b"[" * 100_000),
        ("projects", b'{"name": "x/../y\\u0000"}'),
        ("tokens", b'{"name": "x", "role": "emperor"}'),
        ("join-tokens", b'{"ttl_s": 100000000}'),
    ],
)
def test_bodies_that_do_not_fit(path: str, body: bytes, installation: Installation) -> None:
    """A body that is not what is asked for is a 4xx in the one shape, and changes nothing."""
    hive = installation.hive
    connection = hive.client._connect(20)
    headers = {**hive.client._headers(), "Content-Type": "application/json"}
    connection.request("POST", f"/api/v1/{path}", body=body, headers=headers)
    reply = connection.getresponse()
    said = reply.read()
    connection.close()
    assert 400 <= reply.status < 500, (reply.status, said)
    assert json.loads(said)["error"]["code"]


def test_a_body_too_large(installation: Installation) -> None:
    """A body over the limit is refused as too large."""
    hive = installation.hive
    connection = hive.client._connect(20)
    headers = {**hive.client._headers(), "Content-Type": "application/json"}
    body = b'{"project": "project", "title": "' + b"x" * 2_000_000 + b'"}'
    connection.request("POST", "/api/v1/tasks", body=body, headers=headers)
    reply = connection.getresponse()
    assert reply.status == 413
    assert json.loads(reply.read())["error"]["code"] == "too_large"
    connection.close()


def test_another_hosts_page(installation: Installation) -> None:
    """A request that a foreign page's script could make is refused."""
    hive = installation.hive
    for headers in ({"Origin": "https://evil.example.org"}, {"Host": "evil.example.org"}):
        connection = hive.client._connect(20)
        connection.request(
            "POST", "/api/v1/tasks", body=b"{}", headers={**hive.client._headers(), **headers}
        )
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        assert reply.status in {400, 403, 421}, (headers, reply.status, body)


def test_a_node_of_the_same_name(installation: Installation) -> None:
    """A node that calls itself like another gets a name of its own, and is told which."""
    hive = installation.hive
    twins = [installation.new_node(f"twin-{number}") for number in (1, 2)]
    joined = [
        node.json("join", hive.url, installation.join_token(), "--name", "twin") for node in twins
    ]
    names = [one["name"] for one in joined]
    assert names[0] == "twin"
    assert names[1] != "twin"
    assert names[1].startswith("twin")
    for one in joined:
        assert hive.node(one["name"])["id"] == one["node_id"]


def test_local_api_is_not_for_others(installation: Installation) -> None:
    """The node's own socket and data are this user's alone."""
    node: NodeProgram = installation.nodes[0]
    assert (node.data_dir / "agent.sock").stat().st_mode & 0o077 == 0
    assert node.data_dir.stat().st_mode & 0o077 == 0
    for name in ("hive.db", "hive.key"):
        assert (installation.hive.data_dir / name).stat().st_mode & 0o077 == 0, name
