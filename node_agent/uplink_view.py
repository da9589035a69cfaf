"""How the link to the hive stands, as people are shown it."""

import msgspec


class LinkView(msgspec.Struct, frozen=True, kw_only=True):
    """The link as `node-agent status` shows it.

    `since_ms`: connected, or not, since then. `instance`: the number by which the hive tells this
    process from another holder of the node's key; as text, because JSON readers round it.
    """

    url: str
    hive_id: str
    instance: str = ""
    connected: bool = False
    since_ms: int | None = None
    problem: str = ""
    hint: str = ""
    next_dial_ms: int | None = None
