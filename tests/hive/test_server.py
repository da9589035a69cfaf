"""The hive as a process: how it starts, what it says, how it stops, what a crash leaves."""

import asyncio
import contextlib
import re
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from hive.config import load
from hive.server import hosts_of
from tests.hive.certificates import Authority
from tests.hive.commands.programs import Commands

LISTENING = re.compile(r"listening on (\S+)")


class Process:
    """A `hive serve` of a test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []
        self.url = ""

    async def listening(self) -> str:
        """Wait for the line that says where it listens."""
        assert self.process.stderr is not None
        async with asyncio.timeout(60):
            while True:
                line = (await self.process.stderr.readline()).decode()
                assert line, "".join(self.said)
                self.said.append(line)
                if found := LISTENING.search(line):
                    self.url = found[1]
                    return line

    async def stopped(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(60):
            _, err = await self.process.communicate()
        self.said.append(err.decode())
        return self.process.returncode or 0


@contextlib.asynccontextmanager
async def serving(commands: Commands, *words: str) -> AsyncIterator[Process]:
    """Run `hive serve` on a free port."""
    process = Process(await commands.process("serve", "--port", "0", *words))
    try:
        await process.listening()
        yield process
    finally:
        await process.stopped(signal.SIGKILL)


async def founded(tmp_path: Path, *words: str) -> tuple[Commands, dict[str, Any]]:
    """Found a hive; returns the command line and what `hive init` said."""
    commands = Commands(tmp_path)
    made = await commands.json("init", "--data", str(tmp_path / "hive"), *words)
    commands.environment["SKEP_TOKEN"] = made["admin_token"]
    return commands, made


def at(commands: Commands, process: Process, **more: str) -> Commands:
    """The same command line, speaking to a running hive."""
    commands.environment.update({"SKEP_HIVE_URL": process.url, **more})
    return commands


@pytest.mark.asyncio
async def test_from_nothing_to_a_stop(tmp_path: Path):
    """Founded, served on a free port that is told, asked, stopped by SIGTERM with exit code 0."""
    commands, made = await founded(tmp_path)
    assert set(made) == {"hive_id", "url", "admin_token", "sign_in_url"}
    async with serving(commands, "--data", str(tmp_path / "hive")) as process:
        assert "this machine only" in process.said[-1]
        status = await at(commands, process).json("status")
        assert (status["hive_id"], status["ready"]) == (made["hive_id"], True)
        assert set(status) >= {"hive_id", "generation", "version", "nodes", "ready"}
        assert await process.stopped() == 0
    assert not any("Traceback" in said for said in process.said)


@pytest.mark.asyncio
async def test_founding_twice_is_refused(tmp_path: Path):
    """The first hive stays as it is; the second try says `exists`, exit 1."""
    commands, _ = await founded(tmp_path)
    before = (tmp_path / "hive" / "hive.db").read_bytes()
    again = await commands.run("init", "--data", str(tmp_path / "hive"), "--json")
    assert again.error["code"] == "exists"
    assert (tmp_path / "hive" / "hive.db").read_bytes() == before


@pytest.mark.asyncio
async def test_what_is_secret_is_for_its_user_alone(tmp_path: Path):
    """Folder, database and key can be read by nobody else."""
    await founded(tmp_path)
    folder = tmp_path / "hive"
    assert folder.stat().st_mode & 0o077 == 0
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.asyncio
async def test_one_hive_for_one_folder(tmp_path: Path):
    """A second hive on the same folder is refused, and so is a restore over a running one."""
    commands, _ = await founded(tmp_path)
    data = ("--data", str(tmp_path / "hive"))
    async with serving(commands, *data):
        second = await commands.run("serve", "--port", "0", *data, "--json")
        assert second.error["code"] == "conflict"
        made = await commands.json("backup", str(tmp_path / "copy.db"), *data)
        assert Path(made["path"]).is_file()
        over = await commands.run("restore", str(tmp_path / "copy.db"), *data, "--force", "--json")
        assert over.error["code"] == "conflict"


@pytest.mark.asyncio
async def test_a_start_without_a_hive_says_what_to_do(tmp_path: Path):
    """Nothing is made by accident."""
    said = await Commands(tmp_path).run("serve", "--data", str(tmp_path / "none"), "--json")
    assert said.error["code"] == "not_found"
    assert "hive init" in said.error["hint"]
    assert not (tmp_path / "none").exists()


@pytest.mark.asyncio
async def test_a_taken_port_is_told(tmp_path: Path):
    """Not a traceback but a hint."""
    commands, _ = await founded(tmp_path)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    said = await commands.run("serve", "--data", str(tmp_path / "hive"), "--port", port, "--json")
    assert said.code == 1
    assert '"code":"conflict"' in said.err
    server.close()
    await server.wait_closed()


@pytest.mark.asyncio
async def test_exposing_a_hive_takes_a_word(tmp_path: Path):
    """All addresses without TLS: refused; with consent the line says what is exposed."""
    commands, _ = await founded(tmp_path)
    words = ("--data", str(tmp_path / "hive"), "--host", "0.0.0.0")
    refused = await commands.run("serve", "--port", "0", *words, "--json")
    assert "--tls-cert" in refused.error["hint"]
    async with serving(commands, *words, "--plain-http") as process:
        assert "WITHOUT TLS" in process.said[-1]


@pytest.mark.asyncio
async def test_the_generation_rises_with_every_start(tmp_path: Path):
    """Also after a kill, and after a restore from a copy."""
    commands, made = await founded(tmp_path)
    data = ("--data", str(tmp_path / "hive"))
    generations = []
    for _ in range(3):
        async with serving(commands, *data) as process:
            generations.append((await at(commands, process).json("status"))["generation"])
            await process.stopped(signal.SIGKILL)
    await commands.json("backup", str(tmp_path / "copy.db"), *data)
    restored = await commands.json(
        "restore", str(tmp_path / "copy.db"), "--data", str(tmp_path / "other")
    )
    assert restored["hive_id"] == made["hive_id"]
    async with serving(commands, "--data", str(tmp_path / "other")) as process:
        generations.append((await at(commands, process).json("status"))["generation"])
    assert generations == sorted(set(generations))


@pytest.mark.asyncio
async def test_a_revoked_token_stays_revoked_in_a_restored_hive(tmp_path: Path):
    """The file beside the database is applied to what a copy still holds good."""
    commands, _ = await founded(tmp_path)
    data = ("--data", str(tmp_path / "hive"))
    async with serving(commands, *data) as process:
        at(commands, process)
        made = await commands.json("tokens", "create", "--name", "ci", "--role", "viewer")
        await commands.json("backup", str(tmp_path / "copy.db"), *data)
        await commands.json("tokens", "revoke", "ci")
    restored = await commands.json("restore", str(tmp_path / "copy.db"), *data, "--force")
    assert restored["revoked"] == 1
    # A restore may leave no admin's token that is good: the folder's owner makes one.
    owner = await commands.json("tokens", "create", "--name", "ann", "--role", "admin", *data)
    async with serving(commands, *data) as process:
        at(commands, process, SKEP_TOKEN=made["token"])
        assert (await commands.run("nodes", "--json")).error["code"] == "unauthenticated"
        at(commands, process, SKEP_TOKEN=owner["token"])
        listed = (await commands.json("tokens", "list"))["items"][0]
        assert {**listed, "token": owner["token"]} == {**owner, "last_used_at_ms": ANY}


@pytest.mark.asyncio
async def test_tls_with_an_authority_of_ones_own(tmp_path: Path):
    """With `--ca` or SKEP_CA the hive is trusted; without it, or with another, it is not."""
    commands, _ = await founded(tmp_path)
    own, other = Authority(tmp_path), Authority(tmp_path, "other")
    cert, key = own.certificate()
    data = ("--data", str(tmp_path / "hive"))
    async with serving(commands, *data, "--tls-cert", str(cert), "--tls-key", str(key)) as process:
        assert process.url.startswith("https://127.0.0.1:")
        at(commands, process)
        assert (await commands.json("status", "--ca", str(own.file)))["ready"]
        untrusted = await commands.run("status", "--json")
        assert untrusted.error["code"] == "authentication_failed"
        assert "--ca" in untrusted.error["hint"]
        wrong = await commands.run("status", "--json", "--ca", str(other.file))
        assert wrong.error["code"] == "authentication_failed"
        at(commands, process, SKEP_CA=str(own.file))
        assert (await commands.json("nodes"))["items"] == []
        joined = await commands.json("nodes", "join-token")
        assert f"join {process.url} " in joined["command"]
        host, port = process.url.removeprefix("https://").split(":")
        old = ssl.create_default_context(cafile=str(own.file))
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection(host, int(port), ssl=old)
        assert writer.get_extra_info("ssl_object").version() in {"TLSv1.2", "TLSv1.3"}
        writer.close()
        await writer.wait_closed()


@pytest.mark.asyncio
async def test_a_certificate_that_has_ended_is_told_of(tmp_path: Path):
    """By the hive at its start, and to a viewer with a hint that fits."""
    commands, _ = await founded(tmp_path)
    own = Authority(tmp_path)
    cert, key = own.certificate(days=-1)
    words = ("--tls-cert", str(cert), "--tls-key", str(key))
    async with serving(commands, "--data", str(tmp_path / "hive"), *words) as process:
        assert "it expired on" in "".join(process.said)
        at(commands, process, SKEP_CA=str(own.file))
        refused = await commands.run("status", "--json")
    assert refused.error["code"] == "authentication_failed"
    assert "renew" in refused.error["hint"]


@pytest.mark.asyncio
async def test_a_certificate_that_cannot_be_used_is_told(tmp_path: Path):
    """Before anything is served: which file, and what is wrong with it."""
    commands, _ = await founded(tmp_path)
    cert, _ = Authority(tmp_path).certificate()
    _, key = Authority(tmp_path, "other").certificate(days=91)
    data = ("--data", str(tmp_path / "hive"), "--port", "0", "--json")
    pairs = [(cert, key), (cert, tmp_path / "none"), (tmp_path / "hive" / "hive.db", key)]
    for cert_file, key_file in pairs:
        words = ("--tls-cert", str(cert_file), "--tls-key", str(key_file))
        said = await commands.run("serve", *data, *words)
        assert said.code == 1, said.err
        assert '"code":"invalid"' in said.err


@pytest.mark.asyncio
async def test_the_doctor_sees_what_is_wrong(tmp_path: Path):
    """A fresh hive has no backup; a damaged copy, an open key and a damaged store are errors."""
    commands, _ = await founded(tmp_path)
    data = ("--data", str(tmp_path / "hive"))

    async def findings() -> dict[str, str]:
        process = await commands.run("doctor", *data, "--json")
        import msgspec

        shown = msgspec.json.decode(process.out)
        assert shown["ok"] == (process.code == 0)
        return {found["name"]: found["level"] for found in shown["findings"]}

    assert (await findings())["backups"] == "warning"
    await commands.json("backup", str(tmp_path / "copy.db"), *data)
    fine = await findings()
    assert (fine["store"], fine["backups"]) == ("ok", "ok")
    (tmp_path / "copy.db").write_bytes(b"no database")
    assert (await findings())["backups"] == "warning"
    (tmp_path / "hive" / "hive.key").chmod(0o644)
    assert (await findings())["permissions"] == "error"
    with (tmp_path / "hive" / "hive.db").open("r+b") as database:
        database.write(b"\x00" * 4096)
    assert (await findings())["store"] == "error"


def test_a_node_may_have_dialled_any_name_where_none_is_set(tmp_path: Path):
    """With public addresses set, a hello for another host is refused; this machine's own is not."""
    assert hosts_of(load(tmp_path, environment={})) == frozenset()
    flags = {"public_urls": ["https://Hive.example"], "port": 8700}
    hosts = hosts_of(load(tmp_path, flags=flags, environment={}))
    assert hosts == {"hive.example", "127.0.0.1:8700", "localhost:8700"}
