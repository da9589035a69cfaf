"""Where a task can run: which nodes can take it now, and why not the others. Pure.

Must not start anything: the node itself has the last word on its slots.
"""

from collections.abc import Iterable, Sequence

import msgspec

from protocol.errors import ErrorCode, OperationError


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A node as a place for a task: what it is, and what it has of the task's project."""

    node_id: str
    name: str
    status: str
    slots_total: int
    slots_busy: int
    executors: Sequence[str]
    last_seen_at_ms: int | None
    checkout_id: str | None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a node cannot run a task: in words for people, and as the code of an error."""

    code: ErrorCode
    why: str
    hint: str = ""


def refusal(place: Place, executor: str, project: str) -> Refusal | None:
    """Return why `place` cannot run a task of `project` by `executor`; None where it can.

    What a person would have to mend first goes first.
    """
    if place.status in {"revoked", "quarantined"}:
        return Refusal(
            code=ErrorCode(place.status),
            why=f"the node is {place.status}",
            hint=f"See `hive nodes show {place.name}`.",
        )
    if place.checkout_id is None:
        return Refusal(
            code=ErrorCode.NO_CHECKOUT,
            why=f"the node has no checkout of {project}",
            hint=f"On that node: node-agent checkout add PATH --project {project}",
        )
    if place.status == "offline":
        return Refusal(
            code=ErrorCode.NODE_OFFLINE,
            why="the node is offline",
            hint="It goes on working by itself; try again when it is back.",
        )
    if place.status == "draining":
        return Refusal(
            code=ErrorCode.CONFLICT,
            why="the node takes no new work",
            hint=f"hive nodes drain {place.name} --off",
        )
    if not place.executors:
        # Its link is up, and what it is is on its way: until then the node alone can judge.
        return None
    if executor not in place.executors:
        return Refusal(
            code=ErrorCode.EXECUTOR_UNAVAILABLE,
            why=f"the node has no executor {executor}",
            hint=f"It has: {', '.join(place.executors)}.",
        )
    if place.slots_busy >= place.slots_total:
        return Refusal(
            code=ErrorCode.NODE_FULL,
            why=f"all {place.slots_total} slots of the node are busy",
            hint="Wait for an attempt to end, or choose another node.",
        )
    return None


def in_order(places: Iterable[Place], executor: str, project: str) -> list[Place]:
    """Return the places that can run a task now, those with most free slots first."""
    able = [place for place in places if refusal(place, executor, project) is None]
    return sorted(able, key=lambda place: (place.slots_busy - place.slots_total, place.name))


def waiting_because(places: Sequence[Place], executor: str, project: str) -> Refusal:
    """Return why no place can run a task now: the refusal that is nearest to passing."""
    if not places:
        return Refusal(
            code=ErrorCode.NO_CHECKOUT,
            why="no node has joined yet",
            hint="`hive nodes join-token` prints how one does.",
        )
    refusals = [found for place in places if (found := refusal(place, executor, project))]
    nearest = {
        ErrorCode.NODE_FULL: 0,
        ErrorCode.NODE_OFFLINE: 1,
        ErrorCode.CONFLICT: 2,
        ErrorCode.EXECUTOR_UNAVAILABLE: 3,
        ErrorCode.NO_CHECKOUT: 4,
    }
    return min(refusals, key=lambda found: nearest.get(found.code, 5))


def refused(found: Refusal, place: Place | None = None) -> OperationError:
    """Return a refusal as the error a caller gets."""
    about = {}
    if place is not None:
        about = {"node_id": place.node_id, "node_name": place.name}
        if found.code is ErrorCode.NODE_OFFLINE:
            about["last_seen_at_ms"] = place.last_seen_at_ms  # type: ignore[assignment]
    return OperationError(found.code, found.why, hint=found.hint, **about)
