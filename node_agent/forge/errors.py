"""What can go wrong between this node and a forge, as types with what to do about each.

The codes are those of the table of operations. No text of a forge is passed on unbounded.
"""

# ruff: noqa: N818  each name is a sentence's end: "no forge", "forge failed"
from typing import Any

from node_agent.git.errors import shown
from protocol.errors import ErrorCode, OperationError


class ForgeError(OperationError):
    """Root of what this package raises on purpose."""


class NoForge(ForgeError):
    """The repository's origin is on no forge this node knows."""

    def __init__(self, origin: str | None, host: str) -> None:
        said = "has no origin" if origin is None else f"has its origin at {shown(origin)}"
        super().__init__(
            ErrorCode.NO_FORGE,
            f"the repository {said}, which is no repository of {host}",
            hint="For GitHub Enterprise set github_url at the node; for an ssh alias of its host,"
            " github_hosts.",
            host=host,
        )


class CliMissing(ForgeError):
    """There is neither a token nor a program that has one."""

    def __init__(self, host: str, secret: str) -> None:
        super().__init__(
            ErrorCode.CLI_MISSING,
            f"this node has no token for {host}, and no gh program to ask for one",
            hint=f"On the node: node-agent secrets set {secret}, or install gh and log in with it.",
            host=host,
            secret=secret,
        )


class NotLoggedIn(ForgeError):
    """The program that has tokens has none for this host, or the forge refuses ours."""

    def __init__(self, host: str, secret: str, said: str) -> None:
        super().__init__(
            ErrorCode.NOT_LOGGED_IN,
            f"this node is not logged in at {host}: {shown(said)}",
            hint=f"On the node: node-agent secrets set {secret}, or"
            f" gh auth login --hostname {host}.",
            host=host,
            secret=secret,
        )


class NotAllowed(ForgeError):
    """The forge knows the token and does not let it do this."""

    def __init__(self, host: str, said: str) -> None:
        super().__init__(
            ErrorCode.AUTH,
            f"{host} does not allow this: {shown(said)}",
            hint="The token needs to read contents and checks and to write pull requests; an"
            " organisation may ask that it be authorised for its single sign-on.",
            host=host,
        )


class RepositoryUnseen(ForgeError):
    """The forge has no such repository, or not for this token."""

    def __init__(self, host: str, repository: str) -> None:
        super().__init__(
            ErrorCode.NOT_FOUND,
            f"{host} shows no repository {shown(repository)} to this node's token",
            hint="Give the token access to it, or mend the origin's address at the node.",
            host=host,
            repository=shown(repository),
        )


class RepositoryMoved(ForgeError):
    """The forge has the repository under another name now."""

    def __init__(self, host: str, repository: str, now_at: str) -> None:
        super().__init__(
            ErrorCode.NO_FORGE,
            f"{host} has moved {shown(repository)} elsewhere",
            hint="At the node: git remote set-url origin NEW_ADDRESS.",
            host=host,
            repository=shown(repository),
            now_at=shown(now_at),
        )


class PrNotFound(ForgeError):
    """There is no such pull request."""

    def __init__(self, what: str) -> None:
        super().__init__(
            ErrorCode.NOT_FOUND,
            f"there is no pull request {shown(what)}",
            hint="hive attempt pr opens one; hive attempt attach-pr names one that is there.",
        )


class PrExists(ForgeError):
    """A pull request of this branch is open already; `url` and `number` name it."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__(
            ErrorCode.EXISTS,
            f"pull request {number} of this branch is open already: {shown(url)}",
            hint="Push to its branch to change it, or name it with attach-pr.",
            url=url,
            number=number,
        )


class TargetMissing(ForgeError):
    """The branch to pull into is not at the remote."""

    def __init__(self, branch: str) -> None:
        super().__init__(
            ErrorCode.TARGET_MISSING,
            f"target: the remote has no branch {shown(branch)}",
            hint="Name a branch of the remote with --target, or push that one first.",
            field="target",
            branch=shown(branch),
        )


class ForgeRefused(ForgeError):
    """The forge does not take the request as it is; `details` has its own words."""

    def __init__(self, host: str, said: str, errors: list[Any]) -> None:
        super().__init__(
            ErrorCode.INVALID,
            f"{host} refuses this: {shown(said)}",
            hint="Commit something to the attempt's branch first, or mend what it names.",
            errors=errors,
        )


class SlowedDown(ForgeError):
    """The forge's limit of requests is reached for longer than this call may wait."""

    def __init__(self, host: str, retry_after_s: float | None) -> None:
        when = "later" if retry_after_s is None else f"in {retry_after_s:.0f} s"
        super().__init__(
            # Not SLOW_DOWN, which says that nothing was done: the branch may be pushed by now.
            ErrorCode.FORGE_LIMIT,
            f"{host} takes no more requests with this token for now",
            hint=f"Try again {when}.",
            host=host,
            retry_after_s=retry_after_s,
        )


class ForgeFailed(ForgeError):
    """The forge did not answer, or with nothing that can be used."""

    def __init__(self, host: str, said: str) -> None:
        super().__init__(
            ErrorCode.FORGE_FAILED,
            f"{host} failed: {shown(said)}",
            hint="Try again; if it goes on, see the forge's own status page, and github_api_url.",
            host=host,
        )


class PrUnknown(ForgeError):
    """A pull request was asked for, and whether it is there could not be found out."""

    def __init__(self, host: str, said: str) -> None:
        super().__init__(
            ErrorCode.UNKNOWN_OUTCOME,
            f"it is not known whether {host} made the pull request: {shown(said)}",
            hint="hive attempt attach-pr finds it by its branch, if it is there; else ask again"
            " under another key.",
            host=host,
        )
