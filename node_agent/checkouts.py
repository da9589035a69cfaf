"""Checkouts of this node: taking one up, looking again what it is, letting it go.

The path is asked through git; the rows are the store's. The user's checkout is never changed.
"""

from pathlib import Path
from typing import Final

import msgspec

from node_agent.failpoints import failpoint
from node_agent.git.repository import (
    default_branch,
    open_repository,
    project_name,
    repository_identity,
)
from node_agent.stamps import new_id, now_ms
from node_agent.store import attempts, checkouts
from node_agent.store.database import Database
from node_agent.store.transaction import Transaction
from protocol.entities import Checkout
from protocol.errors import ErrorCode, OperationError
from protocol.one_line import is_one_line

#: As a hive takes it.
_NAME_CHARACTERS_MAX: Final = 200


class CheckoutInUse(OperationError):  # noqa: N818  named for what it is
    """Attempts of this checkout have not ended."""

    def __init__(self, checkout: Checkout, attempt_ids: list[str]) -> None:
        super().__init__(
            ErrorCode.CONFLICT,
            f"attempts run on {checkout.name} ({checkout.path})",
            hint="Stop them, or wait for their end.",
            attempts=attempt_ids,
        )


async def add_checkout(database: Database, path: Path, name: str | None = None) -> Checkout:
    """Take up a checkout, or look again at one that is there; `name` is the project's.

    Raises NotARepository and NoCommits. The same path again gives the same checkout, as it is now.
    """
    repository = await open_repository(path)
    try:
        str(repository.path).encode()
    except UnicodeEncodeError as error:
        raise OperationError(
            ErrorCode.INVALID,
            "the path of the checkout is not UTF-8, so the hive could not show it",
            hint="Rename the folder, or add it through a link with a plain name.",
            field="path",
        ) from error
    project = name or await project_name(repository)
    if not is_one_line(project) or len(project) > _NAME_CHARACTERS_MAX:
        raise OperationError(
            ErrorCode.INVALID,
            f"project: {project[:_NAME_CHARACTERS_MAX]!r} cannot be the name of a project",
            hint=f"Give one by --project: a line of at most {_NAME_CHARACTERS_MAX} characters.",
            field="project",
        )
    found = Checkout(
        id=new_id(),
        path=str(repository.path),
        name=project,
        identity=await repository_identity(repository),
        default_branch=await default_branch(repository),
    )
    return await database.write(_add, found, name is not None)


async def _add(tx: Transaction, found: Checkout, named: bool) -> Checkout:
    known = await checkouts.at_path(tx, found.path)
    if known is not None:
        found = msgspec.structs.replace(
            found, id=known.id, name=found.name if named else known.name
        )
        if found == known:
            return known
    await checkouts.save(tx, found, now_ms())
    failpoint("node.checkout.saved")
    return found


async def remove_checkout(database: Database, text: str) -> Checkout:
    """Let a checkout go; what was done on it stays. Raises NoCheckout and CheckoutInUse."""
    return await database.write(_remove, text)


async def _remove(tx: Transaction, text: str) -> Checkout:
    checkout = await checkouts.resolve(tx, text)
    busy = [one.id for one in await attempts.unended(tx) if one.checkout_id == checkout.id]
    if busy:
        raise CheckoutInUse(checkout, busy)
    removed = msgspec.structs.replace(checkout, removed=True)
    await checkouts.save(tx, removed, now_ms())
    return removed
