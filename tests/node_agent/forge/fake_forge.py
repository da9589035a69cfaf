"""A GitHub of this machine: the documented shapes of its API over HTTP, with state and faults.

It knows branches by looking into a bare repository with plain git. Must not import what it tests.
"""

import asyncio
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aiohttp import web

TOKEN = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
OWNER, NAME = "acme", "widgets"
BODY_BYTES_MAX = 64 * 1024 * 1024
#: A fault for the next request: it answers instead of the forge, or returns None to let it pass.
Fault = Callable[[web.Request], Any]


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


@dataclass
class FakeForge:
    """One repository with its pull requests, checks and a queue of faults."""

    bare: Path
    token: str = TOKEN
    url: str = ""
    pulls: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    faults: list[tuple[str, str, Fault]] = field(default_factory=list)
    prefix: str = "/api/v3"
    name: str = NAME

    # --- what tests say -----------------------------------------------------------------------

    @property
    def host(self) -> str:
        """Its host and port, as they stand in addresses of its pages."""
        return self.url.partition("://")[2]

    @property
    def origin(self) -> str:
        """The address by which a clone names the repository."""
        return f"{self.url}/{OWNER}/{self.name}.git"

    @property
    def posts(self) -> list[Asked]:
        """The requests that were to create a pull request."""
        return [one for one in self.asked if one.method == "POST" and one.path.endswith("/pulls")]

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a node that works with this forge, as they stand in its environment."""
        return {"SKEP_NODE_GITHUB_URL": self.url}

    def fail(self, method: str, path: str, *faults: Fault) -> None:
        """Have the next requests whose path ends like this meet these faults, one each."""
        self.faults.extend((method, path, fault) for fault in faults)

    def branch(self, name: str) -> str | None:
        """The commit a branch of the repository is at."""
        done = subprocess.run(
            ["git", "rev-parse", "-q", "--verify", f"refs/heads/{name}"],
            cwd=self.bare,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() or None

    def open(self, branch: str, *, base: str = "main", **changes: Any) -> dict[str, Any]:
        """Open a pull request, as somebody else would."""
        number = len(self.pulls) + 1
        pull = {
            "number": number,
            "html_url": f"{self.url}/{OWNER}/{self.name}/pull/{number}",
            "state": "open",
            "title": "Somebody's",
            "body": "",
            "draft": False,
            "merged_at": None,
            "head": self._tip(branch),
            "base": self._tip(base),
            "user": {"login": "octocat", "id": 1},
            "labels": [],
            **changes,
        }
        self.pulls.append(pull)
        return pull

    def _tip(self, branch: str) -> dict[str, Any]:
        return {
            "label": f"{OWNER}:{branch}",
            "ref": branch,
            "sha": self.branch(branch) or "0" * 40,
            "repo": {
                "id": 1,
                "name": self.name,
                "full_name": f"{OWNER}/{self.name}",
                "private": True,
            },
        }

    # --- what it answers ----------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        self.asked.append(
            Asked(
                request.method,
                request.path,
                dict(request.query),
                json.loads(body) if body else None,
                {name.lower(): value for name, value in request.headers.items()},
            )
        )
        for waiting in self.faults:
            method, path, fault = waiting
            if method == request.method and request.path.endswith(path):
                self.faults.remove(waiting)
                answer = fault(request)
                if asyncio.iscoroutine(answer):
                    answer = await answer
                if answer is not None:
                    return answer  # type: ignore[no-any-return]
                break
        if request.headers.get("Authorization") not in {
            f"token {self.token}",
            f"Bearer {self.token}",
        }:
            return said(401, "Bad credentials")
        return self.answer(request.method, request.path, dict(request.query), body)

    def answer(self, method: str, path: str, query: dict[str, str], body: str) -> web.Response:
        """Answer as the documentation says."""
        root = f"{self.prefix}/repos/{OWNER}/{self.name}"
        if not path.lower().startswith(root.lower()):
            return said(404, "Not Found")
        rest = path[len(root) :]
        if method == "POST" and rest == "/pulls":
            return self._create(json.loads(body))
        if method != "GET":
            return said(404, "Not Found")
        if rest == "":
            return reply({"id": 1, "full_name": f"{OWNER}/{self.name}", "default_branch": "main"})
        if rest == "/pulls":
            return reply(self._listed(query))
        if found := re.fullmatch(r"/pulls/(\d+)", rest):
            pull = next((one for one in self.pulls if one["number"] == int(found[1])), None)
            return said(404, "Not Found") if pull is None else reply(self._whole(pull))
        if found := re.fullmatch(r"/branches/(.+)", rest):
            commit = self.branch(found[1])
            if commit is None:
                return said(404, "Branch not found")
            return reply({"name": found[1], "commit": {"sha": commit}, "protected": False})
        if found := re.fullmatch(r"/commits/([0-9a-f]+)/check-runs", rest):
            page, size = int(query.get("page", 1)), int(query.get("per_page", 30))
            runs = self.checks[(page - 1) * size : page * size]
            return reply({"total_count": len(self.checks), "check_runs": runs})
        if found := re.fullmatch(r"/commits/([0-9a-f]+)/status", rest):
            return reply(
                {
                    "state": "pending",
                    "statuses": self.statuses,
                    "sha": found[1],
                    "total_count": len(self.statuses),
                }
            )
        return said(404, "Not Found")

    def _listed(self, query: dict[str, str]) -> list[dict[str, Any]]:
        state, head = query.get("state", "open"), query.get("head")
        return [
            pull
            for pull in reversed(self.pulls)
            if state in {"all", pull["state"]} and head in {None, pull["head"]["label"]}
        ]

    def _whole(self, pull: dict[str, Any]) -> dict[str, Any]:
        merged = pull["merged_at"] is not None
        return {"merged": merged, "mergeable": True, "mergeable_state": "clean", **pull}

    def _create(self, wanted: dict[str, Any]) -> web.Response:
        head, base = wanted["head"], wanted["base"]
        if self.branch(base) is None:
            return invalid({"resource": "PullRequest", "field": "base", "code": "invalid"})
        if self.branch(head) is None:
            return invalid({"resource": "PullRequest", "field": "head", "code": "invalid"})
        if self.branch(head) == self.branch(base):
            return invalid(custom(f"No commits between {base} and {head}"))
        for pull in self.pulls:
            ends = (pull["head"]["ref"], pull["base"]["ref"], pull["state"])
            if ends == (head, base, "open"):
                return invalid(custom(f"A pull request already exists for {OWNER}:{head}."))
        made = self.open(
            head, base=base, title=wanted["title"], body=wanted["body"], draft=wanted["draft"]
        )
        return reply(self._whole(made), 201)


def reply(body: Any, status: int = 200, **headers: str) -> web.Response:
    """An answer of the API, with the headers that all have."""
    limits = {
        "X-RateLimit-Limit": "5000",
        "X-RateLimit-Remaining": "4999",
        "X-RateLimit-Reset": str(int(time.time()) + 3600),
    }
    return web.json_response(body, status=status, headers={**limits, **headers})


def said(status: int, message: str, **headers: str) -> web.Response:
    """An answer that is no success."""
    body = {"message": message, "documentation_url": "https://docs.github.com/rest"}
    return reply(body, status, **headers)


def custom(message: str) -> dict[str, str]:
    """One of a 422's errors that has no code of its own."""
    return {"resource": "PullRequest", "code": "custom", "message": message}


def invalid(*errors: dict[str, str]) -> web.Response:
    """The answer to what cannot be taken."""
    body = {"message": "Validation Failed", "errors": list(errors), "documentation_url": "https://"}
    return reply(body, 422)


# --- faults -----------------------------------------------------------------------------------


def answers(status: int, message: str = "no", **headers: str) -> Fault:
    """A request is answered with this."""
    return lambda _: said(status, message, **headers)


def limited(seconds: int) -> Fault:
    """The secondary limit: 403 with the time after which to try again."""
    return answers(
        403, "You have exceeded a secondary rate limit.", **{"Retry-After": str(seconds)}
    )


def used_up(seconds: float) -> Fault:
    """The primary limit: nothing remains until a time of day."""
    return answers(
        403,
        "API rate limit exceeded for user ID 1.",
        **{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time() + seconds))},
    )


def garbage(content_type: str = "application/json") -> Fault:
    """A request is answered with half of something."""
    return lambda _: web.Response(
        body=b'{"number": 1, "html', headers={"Content-Type": f"{content_type}; charset=utf-8"}
    )


def page_of_a_proxy(_: web.Request) -> web.Response:
    """A gateway in between is broken, and says so in its own way."""
    return web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html")


def hung_up(request: web.Request) -> web.Response:
    """The connection is cut and nothing was done."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def silence(request: web.Request) -> web.Response:
    """Nothing is answered until the caller leaves."""
    await asyncio.sleep(60)
    return web.Response()


def taken_then(forge: FakeForge, after: Fault) -> Fault:
    """A request is carried out, and then its answer meets a fault."""

    async def fault(request: web.Request) -> Any:
        forge.answer(request.method, request.path, dict(request.query), await request.text())
        answer = after(request)
        return await answer if asyncio.iscoroutine(answer) else answer

    return fault


# --- running ------------------------------------------------------------------------------------


class Served(Protocol):
    """What answers HTTP, and is told its address."""

    url: str

    async def handle(self, request: web.Request) -> web.StreamResponse: ...


S = TypeVar("S", bound=Served)


@contextmanager
def serving(forge: S) -> Iterator[S]:
    """Serve a forge, or its like, on a port of this machine, from a thread of its own."""
    loop = asyncio.new_event_loop()
    started = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{any:.*}", forge.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        forge.url = f"http://127.0.0.1:{port}"
        started.set()
        await stop.wait()
        await runner.cleanup()
        # Whoever was kept waiting has left by now.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield forge
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def make_bare(path: Path) -> Path:
    """Make the bare repository that the forge has."""
    path.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main"], cwd=path, check=True)
    return path


def connect(forge: FakeForge, checkout: Path) -> None:
    """Have a checkout's origin be the forge's repository, with its main branch pushed there.

    Addresses of the forge lead git to the bare repository: there is no git server behind it.
    """
    for args in (
        ["remote", "add", "origin", forge.origin],
        ["config", f"url.{forge.bare}.insteadOf", forge.origin],
        ["push", "-q", "origin", "main"],
    ):
        subprocess.run(["git", *args], cwd=checkout, check=True, capture_output=True)
