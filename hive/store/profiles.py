"""The profiles of a project: setting one at a time, so that two at once do not undo each other."""

from hive.store import catalog
from hive.store.backend import Transaction
from protocol.errors import ErrorCode, OperationError
from protocol.profiles import Profile


async def set_profile(
    tx: Transaction,
    project_id: str,
    name: str,
    profile: Profile | None,
    *,
    actor: str,
    now_ms: int,
) -> Profile | None:
    """Set a profile of a project, or with None take it away; return what it was before.

    Raises INVALID where it cannot be one, NOT_FOUND where there is none to take away.
    """
    before = (await catalog.get_project(tx, project_id)).profiles
    changed = {key: one for key, one in before.items() if key != name}
    if profile is not None:
        changed[name] = profile
    elif name not in before:
        raise OperationError(
            ErrorCode.NOT_FOUND,
            f"the project has no profile {name[:64]!r}",
            hint=f"It has: {', '.join(sorted(before))}." if before else "It has none.",
        )
    changes = {"profiles": changed}
    await catalog.edit_project(tx, project_id, changes, actor=actor, now_ms=now_ms)
    return before.get(name)
