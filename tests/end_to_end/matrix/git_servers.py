"""Servers that have bare repositories for others to push to: over HTTP, and over SSH.

Each is the real thing: git's own `http-backend` behind a small server, and a private `sshd`.
"""

import abc
import asyncio
import base64
import contextlib
import getpass
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from aiohttp import web

from tests.end_to_end.hive_program import free_port
from tests.end_to_end.installation import git
from tests.end_to_end.waiting import until
from tests.node_agent.forge.fake_forge import serving

USER, PASSWORD = "pusher", "correct-horse-battery"
CGI_S_MAX = 60.0


class GitServer(abc.ABC):
    """A server of bare repositories below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "served"
        self.root.mkdir(parents=True)

    @abc.abstractmethod
    def address(self, name: str) -> str:
        """The address by which a clone names a repository."""

    def prepare(self, checkout: Path) -> None:  # noqa: B027  not every server asks for something
        """Give a checkout's user what the server asks of them."""

    @abc.abstractmethod
    def lock_out(self, checkout: Path) -> None:
        """Let the checkout's user in no longer."""


# --- over HTTP ------------------------------------------------------------------------------------


class HttpServer(GitServer):
    """`git http-backend`; whoever pushes has to say who they are."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url = ""
        self.backend = Path(git(folder, "--exec-path").strip()) / "git-http-backend"
        self.login = f"{USER}:{PASSWORD}"

    def address(self, name: str) -> str:
        return f"{self.url}/{name}"

    def prepare(self, checkout: Path) -> None:
        kept = self.folder / "credentials"
        kept.write_text(self.url.replace("://", f"://{USER}:{PASSWORD}@") + "\n")
        git(checkout, "config", "credential.helper", f"store --file={kept}")

    def lock_out(self, checkout: Path) -> None:
        self.login = f"{USER}:another"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer as the CGI program does."""
        scheme, _, told = request.headers.get("Authorization", "").partition(" ")
        known = scheme == "Basic" and base64.b64decode(told).decode() == self.login
        if not known:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        variables = {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": USER,
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        }
        body = await request.read()
        # What aiohttp read is whole and unpacked, however it came.
        variables |= {"CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_ENCODING": ""}
        done = await asyncio.to_thread(
            subprocess.run,
            [self.backend],
            input=body,
            capture_output=True,
            env={**os.environ, **variables},
            timeout=CGI_S_MAX,
            check=False,
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200 OK").split()[0])
        return web.Response(status=status, body=content, headers=headers)


@contextlib.contextmanager
def http_server(folder: Path) -> Iterator[HttpServer]:
    """Serve repositories over HTTP."""
    with serving(HttpServer(folder)) as server:
        yield server


# --- over SSH -------------------------------------------------------------------------------------


class SshServer(GitServer):
    """A private `sshd`: its own host key, its own list of who may come in."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.known = folder / "authorized_keys"

    def address(self, name: str) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{self.root}/{name}"

    def lock_out(self, checkout: Path) -> None:
        self.known.write_text("")

    def write(self, client: Path) -> Path:
        """Make the keys and the settings of both ends; return the server's settings."""
        host, user = self.folder / "host_key", self.folder / "user_key"
        for key in (host, user):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
            subprocess.run(words, check=True, capture_output=True)
        shutil.copy(user.with_suffix(".pub"), self.known)
        hosts = self.folder / "known_hosts"
        public = host.with_suffix(".pub").read_text()
        hosts.write_text(f"[127.0.0.1]:{self.port} {public}")
        client.write_text(
            f"IdentityFile {user}\nIdentitiesOnly yes\nUserKnownHostsFile {hosts}\n"
            "GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\nBatchMode yes\n"
        )
        settings = self.folder / "sshd_config"
        settings.write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {host}\n"
            f"AuthorizedKeysFile {self.known}\nPidFile {self.folder / 'pid'}\n"
            # The folder of a test's files may belong to whom it likes.
            "StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin yes\n"
        )
        return settings


@contextlib.contextmanager
def ssh_server(
    folder: Path, client: Path, could_not_get: Callable[[str, str], NoReturn]
) -> Iterator[SshServer]:
    """Serve repositories over SSH, where there is a server for it; `client` is how to reach it."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        could_not_get("sshd", "OpenSSH's server and client are not installed")
    server = SshServer(folder)
    settings = server.write(client)
    log = folder / "sshd.log"
    process = subprocess.Popen([program, "-D", "-f", str(settings), "-E", str(log)])
    try:
        until(
            lambda: (
                process.poll() is not None
                or (log.exists() and "listening on" in log.read_text().lower())
            ),
            "sshd listens",
        )
        if process.poll() is not None:
            could_not_get("sshd", f"it does not start: {log.read_text().strip()[-200:]}")
        yield server
    finally:
        process.terminate()
        process.wait(30)
