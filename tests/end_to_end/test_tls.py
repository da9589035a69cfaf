"""TLS with a team's own authority: what fits is spoken, what does not is refused with a hint."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.certificates import Authority, Certificate
from tests.end_to_end.hive_program import free_port
from tests.end_to_end.installation import Installation, make_repository
from tests.end_to_end.printing import PrintingAttempt

DAY = dt.timedelta(days=1)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A hive that is founded and not started."""
    made = Installation(tmp_path)
    try:
        made.hive.init()
        yield made
    finally:
        made.close()


def serve(installation: Installation, certificate: Certificate, authority: Authority) -> None:
    """Serve with a certificate; the admin's commands trust its authority."""
    hive = installation.hive
    hive.url = f"https://localhost:{hive.port}"
    hive.serve_arguments = [
        *("--tls-cert", str(certificate.cert), "--tls-key", str(certificate.key)),
        *("--public-url", hive.url),
    ]
    hive.sign_in(hive.environment["SKEP_TOKEN"], authority.file)
    hive.start()


def test_a_private_authority(installation: Installation, tmp_path: Path) -> None:
    """Join, link, run, follow and read, all over TLS, with the authority given by --ca."""
    authority = Authority(tmp_path / "ca")
    hive = installation.hive
    serve(installation, authority.issue("hive"), authority)
    repository = make_repository(tmp_path / "project")
    node = installation.new_node()
    node.json(
        "join", hive.url, installation.join_token(), "--name", "node1", "--ca", str(authority.file)
    )
    node.json("checkout", "add", str(repository))
    node.start()
    installation.wait_project("project", "node1")
    attempt = PrintingAttempt(tmp_path / "printed", exit_code=0)
    attempt.begin(installation, node, lines_max=5000)
    attempt.check_whole(hive)
    assert len(hive.lines("attempts", "logs", attempt.id, "-f")) > 5000
    hive.kill()
    hive.start()
    node.hurry()
    node.wait_connected()
    assert hive.json("attempt", "diff", attempt.id)["files"] == []


def refused_join(installation: Installation, url: str, *more: str) -> dict:
    """Try to join; return why it is not done. Nothing may be written down of it."""
    node = installation.new_node(f"node{len(installation.nodes)}")
    error = node.refused("join", url, "skepjoin_whatever", *more)
    assert node.json("status")["hive"] is None
    return error


def test_certificates_that_do_not_fit(installation: Installation, tmp_path: Path) -> None:
    """Another name, an expired one, one of the future, an unknown authority: each with a hint."""
    authority = Authority(tmp_path / "ca")
    other = Authority(tmp_path / "ca", "Other CA")
    hive, ca = installation.hive, ("--ca", str(authority.file))
    cases = {
        "not for": (authority.issue("other", names=("hive.example.org",), addresses=()), ca),
        "expired": (authority.issue("old", valid_from=-3 * DAY, valid_for=DAY), ca),
        "not valid yet": (authority.issue("early", valid_from=DAY), ca),
        "authority not known": (authority.issue("good"), ("--ca", str(other.file))),
        "not known here": (authority.issue("good too"), ()),
    }
    for said, (certificate, more) in cases.items():
        serve(installation, certificate, authority)
        error = refused_join(installation, hive.url, *more)
        assert error["code"] == "authentication_failed", (said, error)
        assert said in error["message"], (said, error)
        assert error["hint"]
        # The admin's own commands verify as strictly.
        trusted = more[1] if more else ""
        called = hive.call("status", "--json", *(("--ca", trusted) if trusted else ()))
        if said != "not known here":
            assert called.returncode == 1, said
            assert "certificate" in called.stderr
        hive.stop()


def test_plain_http(installation: Installation) -> None:
    """Plain http beyond this machine is refused at both ends, unless it is asked for."""
    hive = installation.hive
    error = refused_join(installation, "http://hive.example.org:8700")
    assert error["code"] == "invalid"
    assert "--plain-http" in error["hint"]
    error = hive.refused(
        "serve", "--data", str(hive.data_dir), "--host", "0.0.0.0", "--port", str(hive.port)
    )
    assert error["code"] == "invalid"
    assert "--plain-http" in error["hint"]
    hive.serve_arguments = ["--host", "0.0.0.0", "--plain-http"]
    hive.start()
    assert "WITHOUT TLS" in hive.log


def test_tls_where_there_is_none(installation: Installation, tmp_path: Path) -> None:
    """Https to a plain hive, http to one with TLS, and halves of a pair, fail with a hint."""
    authority = Authority(tmp_path / "ca")
    hive = installation.hive
    hive.start()
    error = refused_join(installation, f"https://localhost:{hive.port}")
    assert error["hint"]
    hive.stop()
    serve(installation, authority.issue("hive"), authority)
    error = refused_join(installation, f"http://localhost:{hive.port}")
    assert error["hint"]
    hive.stop()
    for flags in (
        ["--tls-cert", str(authority.file)],
        ["--tls-cert", str(tmp_path / "none"), "--tls-key", str(tmp_path / "none")],
        ["--tls-cert", str(authority.file), "--tls-key", str(authority.file)],
    ):
        error = hive.refused("serve", "--data", str(hive.data_dir), *flags)
        assert error["code"] == "invalid", error
        assert error["hint"]


@pytest.mark.parametrize("fits", [True, False], ids=["own authority", "another authority"])
def test_a_node_that_listens_with_tls(
    installation: Installation, tmp_path: Path, *, fits: bool
) -> None:
    """A node's certificate counts by the hive's authority; with another one the relay is taken."""
    authority = Authority(tmp_path / "ca")
    hive = installation.hive
    serve(installation, authority.issue("hive"), authority)
    signer = authority if fits else Authority(tmp_path / "other", "Other CA")
    certificate = signer.issue("node", addresses=("127.0.0.1",))
    node = installation.new_node()
    node.environment |= {
        "SKEP_NODE_DIRECT_LISTEN": f"127.0.0.1:{free_port()}",
        "SKEP_NODE_DIRECT_TLS_CERT": str(certificate.cert),
        "SKEP_NODE_DIRECT_TLS_KEY": str(certificate.key),
    }
    node.json(
        "join", hive.url, installation.join_token(), "--name", "node1", "--ca", str(authority.file)
    )
    node.json("checkout", "add", str(make_repository(tmp_path / "project")))
    node.start()
    installation.wait_project("project", "node1")
    attempt = installation.run("project", "echo hello", node)
    hive.wait_ended(attempt)
    followed = hive.call("attempts", "logs", attempt, "-f")
    assert followed.stdout == "hello\n"
    assert f"[{'direct' if fits else 'relay'}]" in followed.stderr
