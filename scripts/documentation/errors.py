"""The page of errors: every code, what it means outside, and the hints the code gives with it.

The sentence on each code stands here, and must: a code without one stops the page.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from protocol.errors import MEANINGS, REFUSALS, ErrorCode
from scripts.documentation.markdown import cell, code, page, table

PACKAGES: Final = ("protocol", "node_agent", "hive")
_C = ErrorCode
#: What happened, in a sentence, for the one who meets the code.
SENTENCES: Final[dict[ErrorCode, str]] = {
    _C.BAD_FRAME: "One end of a link sent what the protocol does not allow; none of it is taken.",
    _C.AUTHENTICATION_FAILED: "The signature, join token or token is not good.",
    _C.REVOKED: "The node was revoked at the hive. It works on alone and keeps its data.",
    _C.QUARANTINED: "Two processes use the identity of one node, or its history differs from what"
    " the hive holds. It works on alone until an admin decides.",
    _C.UNKNOWN_NODE: "The hive does not know the node: it was restored, or is another hive.",
    _C.NO_COMMON_VERSION: "Node and hive speak no common version of the protocol; upgrade one.",
    _C.SUPERSEDED: "A newer link of the same node took this one's place.",
    _C.HOLE: "A number is missing. The link closes, and the next one goes on from the right place.",
    _C.SLOW_DOWN: "Too many requests, connections or open calls; wait, then try again.",
    _C.DRAINING: "The hive is starting or stopping; it is back soon.",
    _C.NOT_FOUND: "There is no such thing, or it is not yours to see.",
    _C.INVALID: "Something given cannot be used; `details.field` or `details.where` names it.",
    _C.UNAUTHENTICATED: "No token was given, or it is not known, expired or revoked.",
    _C.FORBIDDEN: "The token's role does not allow it, or the node's operator refuses it.",
    _C.CONFLICT: "The state it needs is not the state there is.",
    _C.EXISTS: "It is there already.",
    _C.IN_PROGRESS: "The same command, by its key, is still being carried out.",
    _C.KEY_REUSED: "The idempotency key was used for another command.",
    _C.ATTEMPT_REQUIRED: "A task was named where a changing command needs the attempt;"
    " `details` names the newest one.",
    _C.EXPECTED_HEAD_MOVED: "The branch is at another commit than the one the caller saw.",
    _C.EXPECTED_EXECUTION_MOVED: "The attempt has begun another run than the one the caller saw.",
    _C.TOO_LARGE: "It is larger than the limit.",
    _C.NODE_OFFLINE: "The node is not connected; `details.last_seen_at_ms` says since when.",
    _C.HIVE_OFFLINE: "The hive does not answer.",
    _C.NODE_FAILED: "The node answered with something that cannot be used, or broke off.",
    _C.UNKNOWN_OUTCOME: "The command was sent and no answer came. It may have been carried out:"
    " look it up by its key.",
    _C.DEADLINE_PASSED: "It took longer than it was allowed to.",
    _C.EXPIRED: "Its time was over before it could be done; nothing was.",
    _C.CANCELLED: "The caller went away, or the operation was cancelled.",
    _C.NOT_AVAILABLE: "This release, or this node, cannot do that.",
    _C.STORE_FULL: "The disk is full. Nothing is lost; it goes on when there is room.",
    _C.INTERNAL: "A bug, or a broken disk; the log of the process says more.",
    _C.NO_CHECKOUT: "The node has no checkout of the project.",
    _C.EXECUTOR_UNAVAILABLE: "The node does not have that executor.",
    _C.NODE_FULL: "All slots of the node are busy.",
    _C.WORKTREE_GONE: "The attempt's worktree was removed.",
    _C.BINARY: "The file is not text.",
    _C.OUTSIDE: "The path leads out of the worktree, or into `.git`.",
    _C.NOT_A_DIRECTORY: "The path is no folder.",
    _C.CONFLICTS: "Two sides changed the same lines; `details.conflicts` names the files.",
    _C.TARGET_MOVED: "The target branch moved while the work was being brought to it.",
    _C.REBASE_IN_PROGRESS: "A rebase, or a merge, stands half done where the work would begin.",
    _C.CHECKOUT_DIRTY: "A worktree that would have to change has uncommitted changes.",
    _C.NOTHING_TO_MERGE: "The target branch has all of it already.",
    _C.PUSH_REJECTED: "The remote refused the push, by a rule or a hook of its own.",
    _C.NOTHING_TO_ABORT: "Nothing stands half done in the worktree.",
    _C.INVALID_NAME: "It cannot be the name of a branch.",
    _C.OPEN_PR: "The branch has an open pull request, which knows it by its name.",
    _C.NOTHING_TO_STASH: "The worktree has nothing uncommitted, or the attempt has no stash.",
    _C.BRANCH_MISSING: "There is no such branch.",
    _C.PROJECT_MISMATCH: "A project of that name is another repository.",
    _C.NO_COMMITS: "The repository has no commit to begin from.",
    _C.NOT_A_REPOSITORY: "The path is no git repository.",
    _C.GIT_FAILED: "The git program failed; `details` holds what it said.",
    _C.UNSAVED_WORK: "The worktree holds work that is saved nowhere else.",
    _C.SESSION_LOST: "Nothing is left that the attempt could go on from.",
    _C.ALREADY_ANSWERED: "Someone was faster: `details.answer` says what, who and when.",
    _C.NO_TURN: "There is no such turn: none runs, or it is not queued any more.",
    _C.NO_SCRIPT: "The project has no such script, or had none when the attempt began.",
    _C.RUNNING: "Something runs in the attempt's worktree that leaves no room for this.",
    _C.HELD: "Someone asked for the attempt's worktree to be kept.",
    _C.GONE: "What was asked for is no longer kept.",
    _C.CLI_MISSING: "The node has no token for the forge, and no `gh` program to ask for one.",
    _C.NOT_LOGGED_IN: "The forge does not accept the node's token, or `gh` is not logged in.",
    _C.TARGET_MISSING: "The remote has no such branch to pull into.",
    _C.FORCE_PUSH_REQUIRED: "The remote's branch has commits that the attempt's has not.",
    _C.NO_REMOTE: "The repository has no remote to push to.",
    _C.AUTH: "The remote or the forge does not let the node's user do this.",
    _C.NO_FORGE: "The repository's remote is on no forge that the node knows.",
    _C.FORGE_LIMIT: "The forge takes no more requests with the node's token for now; `details` may"
    " say for how long.",
    _C.FORGE_FAILED: "The forge did not answer, or not with anything that can be used.",
}


def errors_page(root: Path) -> str:
    """Return the page of errors. Raises KeyError for a code without a sentence."""
    found, given = hints(root), _given(root)
    return page(
        "Errors",
        'Every error has one shape: `{"error": {"code", "message", "hint", "retryable",'
        ' "details"}}`. In the API it comes with the HTTP status below; commands print it on'
        " stderr, as JSON with `--json`. The hint says what to do, to the one who can do it."
        " `retryable` says that the same request may succeed later.",
        "A wrong use of a command has the code `usage` and exit code 2; it is not in the table.",
        table(
            ["code", "HTTP", "again?", "what happened"],
            (
                (
                    f"[{code(one)}](#{one.value})",
                    MEANINGS[one].http_status,
                    "yes" if MEANINGS[one].retryable else "",
                    SENTENCES[one],
                )
                for one in ErrorCode
            ),
        ),
        "## When a link closes",
        "A link between node and hive closes with one of these. After "
        + ", ".join(str(number) for number in sorted(REFUSALS))
        + " the node tries again rarely, because only a person can mend it; after all others it is"
        " back at once.",
        table(
            ["close code", "codes"],
            (
                (number, ", ".join(code(one) for one in codes))
                for number, codes in sorted(_by_close_code().items())
            ),
        ),
        "## Messages and hints, by code",
        "What the program says with each code, and the hint it gives. `…` stands for what it fills"
        " in.",
        *(
            block
            for one in ErrorCode
            for block in _section(one, found.get(one, []), given=one in given)
        ),
    )


def _by_close_code() -> dict[int, list[ErrorCode]]:
    numbers: defaultdict[int, list[ErrorCode]] = defaultdict(list)
    for one, meaning in MEANINGS.items():
        if meaning.close_code is not None:
            numbers[meaning.close_code].append(one)
    return dict(numbers)


def _section(one: ErrorCode, found: list[tuple[str, str]], *, given: bool) -> Iterator[str]:
    yield f"### {one.value}"
    yield SENTENCES[one] + ("" if given else " Nothing in this release answers it yet.")
    yield table(["message", "hint"], ((message or "…", hint) for message, hint in found))


def _given(root: Path) -> set[ErrorCode]:
    """Return the codes that some module names, beside the tables that list them all."""
    lists = {
        "protocol/errors.py",
        "protocol/branch_operations.py",
        "protocol/operations.py",
    }
    text = "\n".join(
        path.read_text("utf-8")
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
        if path.relative_to(root).as_posix() not in lists
    )
    return {one for one in ErrorCode if re.search(rf"\b(?:ErrorCode|_C|_E)\.{one.name}\b", text)}


# --- hints in the code --------------------------------------------------------------------------


def hints(root: Path) -> dict[ErrorCode, list[tuple[str, str]]]:
    """Return, for each code, the messages and hints that stand beside it in the code."""
    trees = [
        ast.parse(path.read_text("utf-8"))
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    ]
    types = _error_types(trees)
    found: defaultdict[ErrorCode, set[tuple[str, str]]] = defaultdict(set)
    for tree in trees:
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            named = node.func.id if isinstance(node.func, ast.Name) else ""
            hint = _text(next((one.value for one in node.keywords if one.arg == "hint"), None))
            one = _code_of(node) or types.get(named)
            if one is not None and hint:
                found[one].add((_text(_message_of(node)), hint))
    return {one: sorted(pairs, key=lambda pair: cell(pair).lower()) for one, pairs in found.items()}


def _error_types(trees: list[ast.Module]) -> dict[str, ErrorCode]:
    """Return the types of errors that give their code themselves."""
    types: dict[str, ErrorCode] = {}
    for tree in trees:
        for made in ast.walk(tree):
            if not isinstance(made, ast.ClassDef):
                continue
            for call in ast.walk(made):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
                    one = _code_of(call)
                    if one is not None:
                        types[made.name] = one
    return types


def _code_of(call: ast.Call) -> ErrorCode | None:
    given = [one.value for one in call.keywords if one.arg == "code"]
    for argument in [*call.args[:1], *given]:
        if isinstance(argument, ast.Attribute) and argument.attr in ErrorCode.__members__:
            return ErrorCode[argument.attr]
    return None


def _message_of(call: ast.Call) -> ast.expr | None:
    named = next((one.value for one in call.keywords if one.arg == "message"), None)
    texts = [one for one in call.args if _text(one)]
    return named or (texts[0] if texts else None)


def _text(node: ast.expr | None) -> str:
    """Return a text as it stands in the code, with what is filled in left open."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        pieces = [_text(one) if isinstance(one, ast.Constant) else "…" for one in node.values]
        return re.sub(r"…+", "…", "".join(pieces))
    return ""
