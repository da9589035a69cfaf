"""A repository as a checkout of a project: where it is, what it is, and what its names mean.

Opening one looks at it as git does for its owner, so that a folder of another user is refused.
Must not change anything in it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from node_agent.git import remote_url
from node_agent.git.command import GitResult, run_git
from node_agent.git.errors import BranchMissing, GitFailed, NoCommits, NotARepository, WorktreeGone
from node_agent.git.refs import branch_ref, candidates, check_ref_name

_REMOTE_HEADS: Final = "refs/remotes/origin/"


@dataclass(frozen=True)
class Repository:
    """An opened repository.

    `path` is the top of its checkout (of a bare repository: its git folder); `git_dir` belongs to
    that checkout, `common_dir` is shared by all its worktrees.
    """

    path: Path
    git_dir: Path
    common_dir: Path
    bare: bool
    #: The commit of HEAD; None where HEAD names a branch that has none yet.
    head: str | None
    #: The branch HEAD names; None when detached.
    branch: str | None

    @property
    def environment(self) -> dict[str, str]:
        """What keeps git to this repository, and from looking for another one above it."""
        return {"GIT_DIR": str(self.git_dir)}

    async def git(
        self, *args: str | bytes, env: Mapping[str, str] | None = None, **options: Any
    ) -> GitResult:
        """Run git in this repository; options as of `run_git`."""
        return await run_git(self.path, *args, env=self.environment | dict(env or {}), **options)

    async def commit_of(self, ref: str) -> str | None:
        """Return the commit a full ref, or another expression of ours, stands for."""
        found = await self.git(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{ref}^{{commit}}",
            exit_codes=(0, 1, 128),
        )
        return found.line.decode() if found.exit_code == 0 else None

    async def setting(self, name: str) -> str | None:
        """Return one of git's settings as it holds in this repository."""
        found = await self.git("config", "--get", name, exit_codes=(0, 1))
        if found.exit_code:
            return None
        return found.line.decode("utf-8", "surrogateescape")


async def open_repository(path: Path) -> Repository:
    """Open the repository whose checkout `path` is, or lies in.

    Raises NotARepository, and NoCommits where it has none. A bare repository will do; so will a
    shallow one, and one whose HEAD is detached.
    """
    path = _from_person(path)
    try:
        kind = await run_git(path, "rev-parse", "--is-bare-repository", "--is-inside-work-tree")
        bare, inside = (word == b"true" for word in kind.stdout.split())
        if not bare and not inside:
            raise NotARepository(str(path), "it is git's own folder of a checkout")
        place, git_dir, common_dir = await asyncio.gather(
            _asked(path, "--absolute-git-dir" if bare else "--show-toplevel"),
            _asked(path, "--absolute-git-dir"),
            _asked(path, "--git-common-dir"),
        )
    except WorktreeGone as error:
        raise NotARepository(str(path), "there is no such folder") from error
    except GitFailed as error:
        raise NotARepository(str(path), error.stderr or str(error), error.hint) from error
    repository = Repository(place, git_dir, common_dir, bare=bare, head=None, branch=None)
    head, branch = await asyncio.gather(
        repository.commit_of("HEAD"),
        repository.git("symbolic-ref", "--quiet", "HEAD", exit_codes=(0, 1)),
    )
    if head is None and not await _has_commits(repository):
        raise NoCommits(str(repository.path))
    name = branch.line.decode("utf-8", "surrogateescape").removeprefix("refs/heads/")
    return Repository(place, git_dir, common_dir, bare=bare, head=head, branch=name or None)


async def default_branch(repository: Repository) -> str | None:
    """Return the branch the project's work goes to.

    What the origin names as its own; else the user's `init.defaultBranch`, main or master, where
    there is one; else the branch checked out; None where HEAD is detached.
    """
    origin_head = await repository.git(
        "symbolic-ref", "--quiet", f"{_REMOTE_HEADS}HEAD", exit_codes=(0, 1)
    )
    names = []
    if ref := origin_head.line.decode("utf-8", "surrogateescape"):
        names.append(ref.removeprefix(_REMOTE_HEADS))
    names += [await repository.setting("init.defaultBranch") or "", "main", "master"]
    for name in dict.fromkeys(name for name in names if name):
        for ref in (branch_ref(name), f"{_REMOTE_HEADS}{name}"):
            if await repository.commit_of(ref):
                return name
    return repository.branch if repository.head else None


async def repository_identity(repository: Repository) -> str:
    """Return what tells this project's clones from all others, on any node.

    The origin's address in one form; `root:` and the first commit where the origin is no address
    that another machine could use. (A shallow clone's first commit is where it was cut.)
    """
    url = await repository.setting("remote.origin.url")
    identity = remote_url.normalised(url) if url else None
    if identity is not None:
        return identity
    start = repository.head or await _any_commit(repository)
    roots = await repository.git(
        "rev-list", "--first-parent", "--max-parents=0", "--end-of-options", start
    )
    return f"root:{roots.stdout.split()[-1].decode()}"


async def project_name(repository: Repository) -> str:
    """Return what the project is called unless someone says otherwise."""
    url = await repository.setting("remote.origin.url")
    name = remote_url.last_name(url) if url else None
    return name or repository.path.name.removesuffix(".git") or "project"


async def resolve_base(
    repository: Repository, name: str | None, *, field: str = "base_branch"
) -> str:
    """Return the commit that work starts from.

    `name` is a local branch, a remote branch (with or without `origin/`), a tag, a full ref, or a
    commit's id, tried in that order. None means the default branch, else HEAD. Raises
    InvalidRefName and BranchMissing, naming `field`.
    """
    if name is None:
        branch = await default_branch(repository)
        name = branch if branch is not None else "HEAD"
        # A name git itself gave need not fit the pattern we hold callers to.
        tried = [branch_ref(name), f"{_REMOTE_HEADS}{name}"] if branch is not None else [name]
    else:
        tried = candidates(check_ref_name(field, name))
    found = await repository.git(
        "cat-file",
        "--batch-check=%(objecttype) %(objectname)",
        stdin="".join(f"{ref}^{{commit}}\n" for ref in tried).encode("utf-8", "surrogateescape"),
    )
    for line in found.stdout.splitlines():
        kind, _, object_id = line.partition(b" ")
        if kind == b"commit":
            return object_id.decode()
    raise BranchMissing(field, name)


def _from_person(path: Path) -> Path:
    return path.expanduser().absolute()


async def _asked(path: Path, question: str) -> Path:
    answer = await run_git(path, "rev-parse", question)
    # An answer is relative to where git ran, where it is not absolute.
    return (path / answer.line.decode("utf-8", "surrogateescape")).resolve()


async def _has_commits(repository: Repository) -> bool:
    return bool(await _some_ref(repository))


async def _any_commit(repository: Repository) -> str:
    found = await _some_ref(repository)
    if not found:
        raise NoCommits(str(repository.path))
    return found


async def _some_ref(repository: Repository) -> str:
    found = await repository.git(
        "for-each-ref", "--count=1", "--format=%(objectname)", "refs/heads", "refs/remotes"
    )
    return found.line.decode()
