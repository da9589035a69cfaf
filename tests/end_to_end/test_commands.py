"""The commands that scripts rely on: one JSON value, exit codes, one shape of error, names and ids.

Each is called as a process. What the commands do is tested elsewhere; here it is how they answer.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.installation import Installation, make_repository
from tests.end_to_end.programs import Command
from tests.end_to_end.waiting import until


class Told:
    """An installation with one attempt that has ended, and every name a command may need."""

    def __init__(self, folder: Path) -> None:
        self.installation = Installation(folder)
        self.folder = folder
        self.names: dict[str, str] = {}

    def tell(self) -> None:
        """Found it all and run one attempt."""
        installation = self.installation
        installation.found()
        repository = make_repository(self.folder / "project")
        node = installation.add_node("laptop", repository=repository)
        task = installation.task("project", "The task")
        hive = installation.hive
        attempt = hive.json(
            *("tasks", "run", task, "--node", "laptop", "--idempotency-key", "the-key"),
            *("--command", "sh -c 'echo one; echo two >&2; echo new > new.txt'"),
        )
        ended = hive.wait_ended(attempt["id"])
        self.names = {
            "DATA": str(hive.data_dir),
            "FOLDER": str(self.folder),
            "TASK": task,
            # To be put away: the worktrees of such a task go.
            "OTHER": installation.task("project", "Another task"),
            "ATTEMPT": attempt["id"],
            "EXECUTION": ended["executions"][0]["id"],
            "NODE": node.status()["node_id"],
            "REPO": str(repository),
            "PROJECT": hive.client.get("projects/project")["id"],
            "NEW": str(make_repository(self.folder / "another")),
        }

    def settle(self) -> None:
        """Wait until nothing runs on the node: a script is answered when it begins."""
        running = "SELECT count(*) FROM execution WHERE status = 'running'"
        until(
            lambda: self.installation.nodes[0].rows("state", running),
            "nothing runs",
            holds=lambda rows: rows == [(0,)],
        )

    def command(self, name: str) -> Command:
        """One of the two commands."""
        return self.installation.hive if name == "hive" else self.installation.nodes[0]

    def words(self, line: str) -> tuple[Command, list[str]]:
        """The command of a line, and its arguments with the names filled in."""
        name, *words = line.split()
        return self.command(name), [self.names.get(word, word).replace("+", " ") for word in words]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """One installation for all of these; they read, or make things of their own."""
    made = Told(tmp_path_factory.mktemp("commands"))
    try:
        made.tell()
        yield made
    finally:
        made.installation.close()


ATTEMPT = "id task_id node_id phase outcome branch target_branch executions sync_state"
ATTEMPT += " synced_through_ms reachable sessions"
NODE = "id name status slots executors version activity last_seen_at_ms labels"
PROJECT = "id name checkouts"
TASK = "id project_id title description type priority status"
#: Command -> the fields its JSON must have, at least.
ANSWERS = {
    "hive status": "hive_id generation version nodes ready",
    "hive nodes": "items next",
    "hive nodes list --limit 1": "items next",
    "hive nodes show laptop": NODE,
    "hive nodes show NODE": NODE,
    "hive nodes join-token --label mine --ttl 10m": "join_token expires_at_ms command",
    "hive nodes drain laptop": NODE,
    "hive nodes drain laptop --off": NODE,
    "hive projects": "items next",
    "hive projects show project": PROJECT,
    "hive projects show PROJECT": PROJECT,
    "hive projects create --name made --repo-url https://example.org/a/b.git": PROJECT,
    "hive projects edit made --name remade": PROJECT,
    "hive projects archive remade": PROJECT,
    "hive projects delete remade": "id",
    "hive tasks": "items next",
    "hive tasks show TASK": TASK,
    "hive tasks create --project project --title Another+task": TASK,
    "hive tasks create --project PROJECT --title D --description X --type docs --draft": TASK,
    "hive tasks edit TASK --priority high": TASK,
    "hive tasks archive OTHER": TASK,
    "hive tasks archive OTHER --undo": TASK,
    "hive tasks nodes TASK": "items",
    "hive tasks run TASK --command true": ATTEMPT,
    "hive tasks run TASK --node NODE --executor command --command true": ATTEMPT,
    "hive attempts": "items next",
    "hive attempts --task TASK --node laptop --status succeeded": "items next",
    "hive attempts show ATTEMPT": ATTEMPT,
    "hive attempts wait ATTEMPT --timeout 5": ATTEMPT,
    "hive attempt branch-status ATTEMPT": "branch target_branch head ahead behind untracked",
    "hive attempt diff ATTEMPT": "base head source files",
    "hive attempt files ATTEMPT": "path entries next",
    "hive attempt stop ATTEMPT": ATTEMPT,
    "hive attempt turns ATTEMPT": "items running",
    "hive attempt drop-turns ATTEMPT --all": "items running",
    "hive attempt hold ATTEMPT": ATTEMPT,
    "hive attempt release ATTEMPT": ATTEMPT,
    "hive attempt review ATTEMPT --command true": "id attempt_id kind script status log",
    "hive backfill ATTEMPT": ATTEMPT,
    "hive attempt stop ATTEMPT --when online --expires-in 2h": ATTEMPT,
    "hive operations": "items next",
    "hive operations --waiting --node laptop": "items next",
    "hive operations --attempt ATTEMPT --status done": "items next",
    "hive operations show the-key": "key operation status attempt_id",
    "hive events": "items next",
    "hive tokens list": "items next",
    "hive tokens create --name robot --role viewer": "id name role token",
    "hive tokens revoke robot": "id name revoked_at_ms",
    "hive doctor --data DATA": "",
    "hive backup --data DATA FOLDER/backup.db": "",
    "node-agent status": "node_id hive outbox slots",
    "node-agent outbox": "ops chunks bytes oldest_ms",
    "node-agent agents": "items next",
    "node-agent checkout add NEW": "id path",
    "node-agent checkout list": "items",
    "node-agent checkout remove NEW": "id path",
    "node-agent attempts": "items next",
    "node-agent attempts show ATTEMPT": "id task_id phase outcome branch executions",
    "node-agent attempts wait ATTEMPT": "id task_id phase outcome branch executions",
    "node-agent attempt branch-status ATTEMPT": "branch target_branch head ahead behind",
    "node-agent attempt diff ATTEMPT": "base head source files",
    "node-agent attempt files ATTEMPT": "path entries next",
    "node-agent attempt stop ATTEMPT": "id phase outcome",
    "node-agent attempt turns ATTEMPT": "items running",
    "node-agent attempt hold ATTEMPT": "id phase outcome hold_until_ms",
    "node-agent attempt release ATTEMPT": "id phase outcome hold_until_ms",
    "node-agent start --project project --title T --command true": "id phase branch",
    "node-agent secrets list": "items",
}


def one_value(output: str) -> Any:
    """The one JSON value that a command printed, on a line of its own."""
    assert output.endswith("\n")
    assert output.count("\n") == 1, output[:500]
    return json.loads(output)


@pytest.mark.parametrize("line", ANSWERS)
def test_an_answer(line: str, told: Told) -> None:
    """With --json: one value on stdout with the fields promised, nothing on stderr, exit 0."""
    command, words = told.words(line)
    if "FOLDER/backup.db" in words:
        words[words.index("FOLDER/backup.db")] = str(told.folder / "backup.db")
    done = command.call(*words, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    told.settle()
    answer = one_value(done.stdout)
    assert set(ANSWERS[line].split()) <= set(answer), answer
    # For people: something to read, and no error. What can be done once only was just done.
    if not {"create", "revoke", "edit", "archive", "delete", "remove"} & set(words):
        plain = command.call(*words)
        told.settle()
        assert plain.returncode == 0, plain.stderr
        assert plain.stdout.strip()
        assert "Traceback" not in plain.stdout + plain.stderr


REFUSALS = {
    "hive nodes show nobody": "not_found",
    "hive projects show nothing": "not_found",
    "hive projects create --name project": "exists",
    "hive tasks show 00000000-0000-7000-8000-000000000000": "not_found",
    "hive tasks create --project nothing --title T": "not_found",
    "hive tasks run TASK --node nobody --command true": "not_found",
    "hive tasks run TASK --node laptop --executor nonesuch --prompt P": "executor_unavailable",
    "hive tasks run TASK --node laptop --command true --base-branch none": "branch_missing",
    "hive attempts show 0123456789": "not_found",
    "hive attempts logs 0123456789": "not_found",
    "hive attempts logs ATTEMPT --execution nonesuch": "not_found",
    "hive attempt diff 0123456789": "not_found",
    "hive attempt cat ATTEMPT nonesuch.txt": "not_found",
    "hive attempt follow-up ATTEMPT": "invalid",
    "hive attempt interrupt ATTEMPT": "no_turn",
    "hive attempt go-on ATTEMPT": "no_turn",
    "hive attempt cleanup ATTEMPT": "unsaved_work",
    "hive attempt run-script ATTEMPT dev": "no_script",
    "hive attempt review ATTEMPT": "executor_unavailable",
    "hive attempt drop-turns ATTEMPT --turn nonesuch": "no_turn",
    "node-agent attempt interrupt ATTEMPT": "no_turn",
    "node-agent attempt go-on ATTEMPT": "no_turn",
    "node-agent attempt cleanup ATTEMPT": "unsaved_work",
    "hive attempt files ATTEMPT README.md": "not_a_directory",
    "hive attempt pr ATTEMPT --title T": "no_forge",
    "hive attempt pr ATTEMPT --title T --target ..": "invalid",
    "hive attempt attach-pr ATTEMPT --number 1": "no_forge",
    "hive attempt pr-state ATTEMPT": "no_forge",
    "node-agent attempt pr ATTEMPT --title T": "no_forge",
    "node-agent attempt pr-state ATTEMPT": "no_forge",
    "hive operations show nonesuch": "not_found",
    "hive operations cancel the-key": "conflict",
    "hive operations confirm nonesuch": "not_found",
    "hive init --data DATA": "exists",
    "hive serve --data DATA": "conflict",
    "hive serve --data FOLDER": "not_found",
    "hive serve --data DATA --host 0.0.0.0": "invalid",
    "node-agent attempts show 0123456789": "not_found",
    "node-agent attempt diff 0123456789": "not_found",
    "node-agent logs 0123456789": "not_found",
    "node-agent start --project nothing --title T --command true": "no_checkout",
    "node-agent start --project project --title T --executor nonesuch --prompt P": (
        "executor_unavailable"
    ),
    "node-agent checkout add FOLDER": "not_a_repository",
    "node-agent checkout remove nothing": "no_checkout",
    "node-agent run": "conflict",
}


@pytest.mark.parametrize("line", REFUSALS)
def test_a_refusal(line: str, told: Told) -> None:
    """A failure exits 1, prints nothing, and says code, message and hint on stderr as JSON."""
    command, words = told.words(line)
    error = command.refused(*words)
    assert error["code"] == REFUSALS[line], error
    assert error["hint"], error
    plain = command.call(*words)
    assert plain.returncode == 1
    assert error["hint"][:20] in plain.stderr.replace("\n", " ")
    assert "Traceback" not in plain.stderr


WRONG_USE = [
    "hive nonesuch",
    "hive nodes nonesuch",
    "hive nodes show",
    "hive tasks create --title T",
    "hive tasks create --project project --title T --type nonesuch",
    "hive nodes --limit 0",
    "hive attempts logs ATTEMPT --after -1",
    "hive attempt nonesuch ATTEMPT",
    "hive attempt stop ATTEMPT --when tomorrow",
    "hive attempt stop ATTEMPT --when online --expires-in soon",
    "hive attempt run-script ATTEMPT",
    "hive attempt set-turns ATTEMPT --items nonsense",
    "hive attempt pr ATTEMPT",
    "node-agent attempt pr ATTEMPT",
    "hive serve --port many",
    "node-agent nonesuch",
    "node-agent join http://127.0.0.1:1",
    "node-agent start --project project --title T",
    "node-agent attempts --limit 0",
]


@pytest.mark.parametrize("line", WRONG_USE)
def test_wrong_use(line: str, told: Told) -> None:
    """Wrong use exits 2 and prints nothing on stdout, with --json too."""
    command, words = told.words(line)
    for more in ([], ["--json"]):
        done = command.call(*words, *more)
        assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
        assert done.stdout == ""
        assert done.stderr
        assert "Traceback" not in done.stderr


def test_logs_are_lines_of_json(told: Told) -> None:
    """`logs --json` prints one object per line, and nothing else."""
    for name, words in (
        ("hive", ["attempts", "logs", told.names["ATTEMPT"]]),
        ("hive", ["attempts", "logs", told.names["ATTEMPT"], "--execution", "agent"]),
        ("hive", ["attempts", "logs", told.names["ATTEMPT"], "-f"]),
        ("node-agent", ["logs", told.names["ATTEMPT"]]),
        ("node-agent", ["logs", told.names["ATTEMPT"], "-f"]),
    ):
        lines = told.command(name).lines(*words)
        assert sorted(line["stream"] + " " + line["text"] for line in lines) == [
            "stderr two",
            "stdout one",
        ]
        assert [set(line) for line in lines] == [{"n", "at_ms", "stream", "text"}] * 2
        assert [line["n"] for line in lines] == [1, 2]
        later = told.command(name).lines(*words[:3], "--after", "1")
        assert later == lines[1:]


def test_the_file_and_its_bytes(told: Told) -> None:
    """`cat` prints exactly the file's bytes."""
    for name in ("hive", "node-agent"):
        done = told.command(name).call("attempt", "cat", told.names["ATTEMPT"], "new.txt")
        assert (done.returncode, done.stdout) == (0, "new\n"), done.stderr


def test_prefixes_and_ends_of_ids(told: Told) -> None:
    """Any 8 or more digits that begin or end an id name it, where they name one alone."""
    for noun, command, name in (
        ("ATTEMPT", "hive", ("attempts", "show")),
        ("TASK", "hive", ("tasks", "show")),
        ("NODE", "hive", ("nodes", "show")),
        ("PROJECT", "hive", ("projects", "show")),
        ("ATTEMPT", "node-agent", ("attempts", "show")),
    ):
        whole = told.names[noun]
        for part in (whole[-8:], whole[-12:], whole.replace("-", "")[:24], whole[:23]):
            assert told.command(command).json(*name, part)["id"] == whole, (noun, part)
        assert told.command(command).refused(*name, whole[-7:])["code"] == "not_found"


def test_one_key_one_effect(told: Told) -> None:
    """The same idempotency key again is the same attempt; with another body it is refused."""
    hive = told.installation.hive
    again = (
        *("tasks", "run", told.names["TASK"], "--node", "laptop", "--idempotency-key", "the-key"),
        "--command",
    )
    same = hive.json(*again, "sh -c 'echo one; echo two >&2; echo new > new.txt'")
    assert same["id"] == told.names["ATTEMPT"]
    assert hive.refused(*again, "true")["code"] == "key_reused"


def test_who_may_do_what(told: Told) -> None:
    """A viewer reads and does not start; nobody without a token reads; an old token is refused."""
    hive = told.installation.hive
    admin = hive.environment["SKEP_TOKEN"]
    viewer = hive.json("tokens", "create", "--name", "looker", "--role", "viewer")["token"]
    try:
        hive.environment["SKEP_TOKEN"] = viewer
        assert hive.json("attempts", "show", told.names["ATTEMPT"])["id"]
        wanted = ("tasks", "run", told.names["TASK"], "--node", "laptop", "--command", "true")
        assert hive.refused(*wanted)["code"] == "forbidden"
        assert hive.refused("nodes", "join-token")["code"] == "forbidden"
        hive.environment["SKEP_TOKEN"] = "skep_nonesuch"
        assert hive.refused("status")["code"] == "unauthenticated"
        hive.environment["SKEP_TOKEN"] = admin
        hive.json("tokens", "revoke", "looker")
        hive.environment["SKEP_TOKEN"] = viewer
        until(
            lambda: hive.call("status", "--json").returncode,
            "the revoked token is refused",
            within_s=10,
        )
    finally:
        hive.environment["SKEP_TOKEN"] = admin


def test_a_kept_login(told: Told, tmp_path: Path) -> None:
    """`hive login` keeps address and token for later commands, for this user alone."""
    hive = told.installation.hive
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    kept = dict(hive.environment)
    try:
        hive.environment = {**kept, **home}
        done = hive.call("login", hive.url, "--json", stdin=f"{kept['SKEP_TOKEN']}\n")
        assert done.returncode == 0, done.stderr
        hive.environment = home
        assert hive.json("status")["ready"]
        (file,) = (tmp_path / "config").rglob("login.json")
        assert file.stat().st_mode & 0o777 == 0o600
    finally:
        hive.environment = kept


def test_no_hive_there(told: Told) -> None:
    """With no hive at the address, a command fails with a hint, and soon."""
    hive = told.installation.hive
    kept = dict(hive.environment)
    try:
        hive.environment["SKEP_HIVE_URL"] = "http://127.0.0.1:9"
        error = hive.refused("status")
        assert (error["code"], error["retryable"]) == ("hive_offline", True)
        del hive.environment["SKEP_HIVE_URL"]
        assert "login" in hive.refused("status")["hint"]
    finally:
        hive.environment = kept


def test_the_http_edges(told: Told) -> None:
    """The pages around the API answer, and unknown paths of it are errors of the one shape."""
    import http.client

    hive = told.installation.hive
    for path, status, kind in (
        ("/healthz", 200, ""),
        ("/readyz", 200, ""),
        ("/metrics", 200, "text/plain"),
        ("/openapi.json", 200, "application/json"),
        ("/api/docs", 200, "text/html"),
        ("/api/v1/nonesuch", 404, "application/json"),
        ("/api/nonesuch", 404, "application/json"),
        ("/api/v1/nodes", 401, "application/json"),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", hive.port, timeout=20)
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        assert reply.status == status, (path, reply.status, body[:200])
        assert kind in (reply.getheader("Content-Type") or ""), path
        if status >= 400:
            assert set(json.loads(body)["error"]) >= {"code", "message", "hint"}
