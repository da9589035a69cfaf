"""Who may hold a node's identity: the verdict on a hello, from what the hive has stored of it.

A node stores nothing for this, so no crash and no restore can look like a clone: a process draws
a random `instance` at its start and counts its connections in `connect_no`. Two processes that
hold one key betray each other by coming back after they were replaced.
"""

import enum

import msgspec


class Verdict(enum.Enum):
    """What becomes of a hello."""

    GRANTED = "granted"
    #: The nonce was given before the present link was accepted: a slow socket, not a clone.
    SUPERSEDED = "superseded"
    #: This hello proves that two processes hold the identity: refuse both until a person chooses.
    QUARANTINE = "quarantine"
    #: Already quarantined, or the holder a person decided against.
    REFUSED = "refused"


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What the hive keeps of a node's identity.

    `accepted_at` and a hello's `challenged_at` are numbers of one counter of the hive process,
    raised at each challenge and each acceptance: they order nonces against links without a clock.
    """

    instance: int | None = None
    connect_no: int = 0
    accepted_at: int = 0
    replaced: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()
    contenders: frozenset[int] = frozenset()
    quarantined: bool = False


#: Replaced instances that are kept; a clone that sleeps through this many starts is let in again
#: and betrays itself at the next replacement.
REPLACED_MAX = 1_000


def judge(holder: Holder, *, instance: int, connect_no: int, challenged_at: int) -> Verdict:
    """Return the verdict on a hello whose signature has been verified."""
    if holder.quarantined or instance in holder.refused:
        return Verdict.REFUSED
    if challenged_at < holder.accepted_at:
        return Verdict.SUPERSEDED
    if instance in holder.replaced:
        return Verdict.QUARANTINE
    if instance == holder.instance and connect_no <= holder.connect_no:
        return Verdict.QUARANTINE
    return Verdict.GRANTED


def granted(holder: Holder, *, instance: int, connect_no: int, accepted_at: int) -> Holder:
    """Return the holder after a granted hello."""
    replaced = holder.replaced
    if holder.instance is not None and holder.instance != instance:
        replaced = (replaced | {holder.instance}) - {instance}
        if len(replaced) > REPLACED_MAX:
            replaced = frozenset(sorted(replaced)[-REPLACED_MAX:])
    return msgspec.structs.replace(
        holder,
        instance=instance,
        connect_no=connect_no,
        accepted_at=accepted_at,
        replaced=replaced,
        contenders=frozenset(),
    )


def quarantined(holder: Holder, *, instance: int) -> Holder:
    """Return the holder once two processes were seen: `instance` and the one before it."""
    contenders = holder.contenders | {instance}
    if holder.instance is not None:
        contenders |= {holder.instance}
    return msgspec.structs.replace(holder, quarantined=True, contenders=contenders)


def released(holder: Holder, *, instance: int) -> Holder:
    """Return the holder after a person let `instance` on; its rivals have to join anew."""
    rivals = (holder.contenders | holder.replaced) - {instance}
    if holder.instance is not None and holder.instance != instance:
        rivals |= {holder.instance}
    return msgspec.structs.replace(
        holder,
        quarantined=False,
        instance=instance,
        # The one let on may be a copy that has counted less than the one we stored.
        connect_no=0,
        replaced=frozenset(),
        refused=holder.refused | rivals,
        contenders=frozenset(),
    )


def restarted(holder: Holder) -> Holder:
    """Return the holder after a start of the hive: no socket and no nonce of before is alive."""
    return msgspec.structs.replace(holder, accepted_at=0)
