"""What `NodeLink` asks of its shell: effects to carry out in order, and what to read next."""

from dataclasses import dataclass

from protocol.messages import (
    Call,
    Cancel,
    Draining,
    EpochMark,
    Fork,
    HeartbeatReply,
    Links,
    LogMark,
    Need,
    NodeMessage,
    PartCredit,
    Safe,
    Welcome,
)

# --- what `receive` asks of the shell -------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    """Send this now, in the control lane."""

    message: NodeMessage


@dataclass(frozen=True)
class Compare:
    """Look up our digests at these places and hand them to `settled`."""

    epochs: tuple[tuple[int, int], ...]
    logs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class CompareMarks:
    """Look up our digests at these marks of the hive's and hand them to `marks_compared`."""

    marks: tuple[EpochMark, ...]


@dataclass(frozen=True)
class Accepted:
    """The welcome: what to remember of the hive."""

    welcome: Welcome


@dataclass(frozen=True)
class Adopt:
    """Number this log on from the hive's cursor, then tell `log_adopted`.

    The hive holds our chunks up to `held_through`; what follows them it lacks.
    """

    mark: LogMark
    held_through: int


@dataclass(frozen=True)
class Probe:
    """Look up our digests of this log below chunk `below` and hand them to `probed`."""

    execution_id: str
    below: int


@dataclass(frozen=True)
class Refork:
    """An epoch was forked and we were released: write again what the hive lacks, call anew."""

    fork: Fork


@dataclass(frozen=True)
class LogsAcked:
    """The hive holds these logs up to here."""

    marks: tuple[LogMark, ...]


@dataclass(frozen=True)
class OpsAcked:
    """The hive holds this epoch up to `seq`: stop resending, do not delete."""

    epoch: int
    seq: int


@dataclass(frozen=True)
class Received:
    """A message for the shell: a need, a call, a cancel, links, safe marks, draining."""

    message: Need | Call | Cancel | PartCredit | Links | Safe | Draining | HeartbeatReply


Effect = (
    Send
    | Compare
    | CompareMarks
    | Accepted
    | Adopt
    | Probe
    | Refork
    | LogsAcked
    | OpsAcked
    | Received
)


# --- what to read next ----------------------------------------------------------------------------


@dataclass(frozen=True)
class SnapshotWanted:
    """Read the state of all we own in one go and hand it to `snapshot_read`.

    `skips` names the digests it takes along: (epoch, through) of ops that are no longer kept.
    """

    skips: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class OpsWanted:
    """Read ops of `epoch` after `after` and hand them to `ops_read`."""

    epoch: int
    after: int
    ops_max: int
    bytes_max: int


@dataclass(frozen=True)
class ChunksWanted:
    """Read chunks of this log from `chunk_seq` and hand them to `chunk_read` one by one."""

    execution_id: str
    chunk_seq: int
    bytes_max: int


@dataclass(frozen=True)
class AnswerWanted:
    """Take the next frame of the answer to this need and hand it to `answer_read`."""

    request_id: str


Wanted = SnapshotWanted | OpsWanted | ChunksWanted | AnswerWanted
