"""Push and force-push to servers of git as they are met in the field: over HTTP and over SSH."""

import json
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest

from protocol.errors import ErrorCode, SkepError
from protocol.operations import OPERATIONS
from tests.end_to_end.installation import git, make_repository
from tests.end_to_end.matrix.git_servers import (
    PASSWORD,
    GitServer,
    http_server,
    ssh_server,
)
from tests.end_to_end.matrix.installed import Installed
from tests.end_to_end.matrix.repositories import Trees
from tests.end_to_end.matrix.ways import WAYS, Asked, Way

#: More than git sends in one piece over HTTP.
LARGE_BYTES = 3 * 1024 * 1024


class Pushing:
    """An attempt whose checkout has its remote at a server."""

    def __init__(self, installed: Installed, server: GitServer, name: str) -> None:
        self.ground = installed.ground
        self.server = server
        checkout = make_repository(installed.folder / "pushing" / name)
        remote = server.root / f"{name}.git"
        git(server.root, "clone", "-q", "--bare", str(checkout), str(remote))
        git(remote, "config", "core.logAllRefUpdates", "always")
        git(checkout, "remote", "add", "origin", server.address(remote.name))
        server.prepare(checkout)
        self.ground.owner.json("checkout", "add", str(checkout))
        installation = self.ground.installation
        [found] = [
            one["name"]
            for one in self.ground.owner.client.get("checkouts")["items"]
            if one["path"] == str(checkout)
        ]
        installation.wait_project(found, "owner")
        self.attempt = installation.run(found, "true", self.ground.owner)
        shown = installation.hive.wait_ended(self.attempt)
        self.task = shown["task_id"]
        self.trees = Trees(checkout, remote, Path(shown["worktree"]), shown["branch"])

    @property
    def there(self) -> str:
        """Where the branch stands at the remote, by plain git there."""
        ref = f"refs/heads/{self.trees.branch}"
        return git(self.trees.remote, "for-each-ref", "--format=%(objectname)", ref).strip()

    @property
    def moves(self) -> int:
        """How often the remote's branch was moved."""
        log = self.trees.remote / "logs" / "refs" / "heads" / self.trees.branch
        return len(log.read_text().splitlines()) if log.exists() else 0

    def push(self, way: Way, **request: Any) -> Any:
        """Ask for a push."""
        asked = Asked(OPERATIONS["push"], request, self.attempt, self.task, "")
        return way.ask(self.ground, asked)

    def refused(self, way: Way, **request: Any) -> SkepError:
        """Ask for a push that is refused, and leaves the remote as it was."""
        before = self.there
        with pytest.raises(SkepError) as caught:
            self.push(way, **request)
        assert self.there == before
        assert PASSWORD not in json.dumps([caught.value.message, caught.value.details])
        return caught.value


@pytest.fixture(params=["http", "ssh"])
def pushing(
    request: pytest.FixtureRequest,
    installed: Installed,
    tmp_path: Path,
    could_not_get: Callable[[str, str], NoReturn],
) -> Iterator[Pushing]:
    """An attempt whose remote is at a server of each kind."""
    with ExitStack() as stack:
        server: GitServer
        if request.param == "http":
            server = stack.enter_context(http_server(tmp_path))
        else:
            server = stack.enter_context(ssh_server(tmp_path, installed.ssh_config, could_not_get))
        name = f"{request.param}-{tmp_path.name}"
        yield Pushing(installed, server, name)


def test_a_remote_at_a_server(pushing: Pushing) -> None:
    """Pushed, refused, forced over what was seen and nothing else: by every way, each move once."""
    trees = pushing.trees
    first = trees.commit("first", {"work.txt": "1\n"})
    large = random.Random(1).randbytes(LARGE_BYTES).hex()
    second = trees.commit("second", {"work.txt": "2\n", "large.txt": large})
    for way in WAYS:
        # Asked again it is there already, and nothing moves.
        assert PASSWORD not in json.dumps(pushing.push(way))
        assert (pushing.there, pushing.moves) == (second, 1)
    for number, way in enumerate(WAYS):
        seen = pushing.there
        trees.git("reset", "-q", "--hard", first)
        other = trees.commit("another second", {"work.txt": f"another {number}\n"})
        if number < 2:
            needed = pushing.refused(way)
            assert needed.code is ErrorCode.FORCE_PUSH_REQUIRED
            assert needed.details["remote_head"] == seen
            moved = pushing.refused(way, force=True, expected_remote_head=first)
            assert moved.code is ErrorCode.EXPECTED_HEAD_MOVED
        pushing.push(way, force=True, expected_remote_head=seen)
        assert (pushing.there, pushing.moves) == (other, number + 2)


def test_what_a_server_refuses(pushing: Pushing) -> None:
    """A hook that says no, and a user who is let in no longer, are told as what they are."""
    trees, relay = pushing.trees, WAYS[0]
    trees.commit("work", {"work.txt": "1\n"})
    hook = trees.remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'not on a Friday' >&2\nexit 1\n")
    hook.chmod(0o755)
    rejected = pushing.refused(relay)
    assert rejected.code is ErrorCode.PUSH_REJECTED
    assert "not on a Friday" in rejected.details["stderr"]
    hook.unlink()
    pushing.server.lock_out(trees.checkout)
    for way in WAYS:
        assert pushing.refused(way).code is ErrorCode.AUTH
    assert pushing.moves == 0
    # Nor does plain git get in.
    plain = subprocess.run(
        ["git", "push", "-q", "origin", "HEAD"],
        cwd=trees.worktree,
        env={**pushing.ground.owner.full_environment(), "GIT_TERMINAL_PROMPT": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert plain.returncode == 128
