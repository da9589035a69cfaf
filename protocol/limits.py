"""Every bound of the wire, with its unit and the reason for the number.

Both ends import the same constants, so neither can be talked into more than the other allows.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- frames -------------------------------------------------------------------------------------
#: One WebSocket message. Small enough that a control frame never waits long behind one.
FRAME_BYTES_MAX: Final = 256 * KIB
#: Ops in one frame, and their bytes: one group commit at the hive.
OPS_PER_FRAME_MAX: Final = 200
OPS_FRAME_BYTES_MAX: Final = 64 * KIB
#: Ops sent and not yet acknowledged; more would only queue in the hive's memory.
OPS_IN_FLIGHT_BYTES_MAX: Final = 64 * KIB
#: The body of one op; longer text stands in the execution's log and is cut here.
OP_BODY_BYTES_MAX: Final = 64 * KIB
#: One piece of a streamed reply; control frames pass between two of them.
PART_BYTES_MAX: Final = 32 * KIB
#: The highest number of an op, a chunk or an entry, and the most a chunk counts: JSON carries it
#: whole, and a store can add to it.
NUMBER_MAX: Final = 2**53 - 1
#: What names a snapshot: it is kept with each state that the snapshot sets.
SNAPSHOT_ID_CHARACTERS_MAX: Final = 128
#: What a node says it is doing: everybody who looks at the hive is sent it.
ACTIVITY_CHARACTERS_MAX: Final = 200
#: Epochs a hello names; older ones are long acknowledged and pruned.
HELLO_EPOCHS_MAX: Final = 1_000
#: Logs on one page of a hello and cursors on one page of a welcome.
HELLO_LOGS_PER_PAGE_MAX: Final = 1_000
#: Records on one page of a snapshot or of a backfill answer, and their bytes.
RECORDS_PER_PAGE_MAX: Final = 200
RECORDS_PAGE_BYTES_MAX: Final = 128 * KIB
#: Digests of a forked epoch the hive names so that the node can find the last common op.
FORK_DIGESTS_MAX: Final = 256
#: Ids one `need` may name.
NEED_IDS_MAX: Final = 100
#: Digests of a log on one page of a probe, newest first.
LOG_PROBE_DIGESTS_MAX: Final = 4_000
#: Bytes one `need` asks for unless it says otherwise; the hive asks again for the rest.
NEED_BYTES_DEFAULT: Final = 64 * MIB
#: Needs a node works on at a time; a hive asks for more only as these end.
NEEDS_OPEN_MAX: Final = 64
#: Live text of agents: one piece, pieces of a link in a second, and what waits at the node when the
#: link is busy. Beyond these it is dropped: it is for eyes alone, and comes whole as a message.
LIVE_TEXT_BYTES_MAX: Final = 8 * KIB
#: What stands beside the text of a piece: whose it is, and what will hold it.
LIVE_TEXT_NAMES_BYTES_MAX: Final = 512
LIVE_TEXT_PER_S_MAX: Final = 20
LIVE_TEXT_WAITING_BYTES_MAX: Final = 32 * KIB
#: Calls open on one link at a time.
CALLS_OPEN_MAX: Final = 256

# --- log chunks ---------------------------------------------------------------------------------
#: A chunk's payload once decompressed; the decoder refuses to produce more.
CHUNK_RAW_BYTES_MAX: Final = 256 * KIB
#: A chunk is cut at this size ...
CHUNK_RAW_BYTES_CUT: Final = 64 * KIB
#: ... or after this time, whichever comes first.
CHUNK_CUT_MS: Final = 250
#: A chunk's blob as it travels: a quarter of the largest payload, had it not been compressible. A
#: larger one is halved and compressed again, so that no control frame waits long behind a chunk.
CHUNK_BLOB_BYTES_MAX: Final = 65 * KIB
#: A line longer than this is cut where it is shown; its bytes stay whole in the log.
LINE_SHOWN_BYTES_MAX: Final = 64 * KIB
#: Log bytes one execution may keep; beyond it head and tail stay and the middle is a gap.
EXECUTION_LOG_BYTES_MAX: Final = 1024 * MIB

# --- credit -------------------------------------------------------------------------------------
#: The window of logs: at first, on a slow link, and on one that carries as much within
#: `WINDOW_DELAY_MS`. A chunk begun on its last byte is on its way too, and is allowed for.
CREDIT_WINDOW_BYTES_FIRST: Final = 64 * KIB
CREDIT_WINDOW_BYTES_MIN: Final = 16 * KIB
CREDIT_WINDOW_BYTES_MAX: Final = 1 * MIB
#: Bytes of a streamed reply that may be on their way to a reader that has not taken them: first,
#: and on a link that carries them within `WINDOW_DELAY_MS`.
PART_WINDOW_BYTES_FIRST: Final = 64 * KIB
PART_WINDOW_BYTES_MAX: Final = 256 * KIB
#: A window holds what the link carries in its round trip and this: what a control frame may wait
#: behind.
WINDOW_DELAY_MS: Final = 60
#: A window is fitted no more often; a round trip counts no more than `CONTROL_ROUND_TRIP_MS_MAX`,
#: since a link that was never idle was never seen without what waits on it.
WINDOW_FIT_MS_MIN: Final = 20
CONTROL_ROUND_TRIP_MS_MAX: Final = 150

# --- time ---------------------------------------------------------------------------------------
#: A link that says nothing for this long is asked.
PING_INTERVAL_S: Final = 20.0
#: A link without any frame for this long is dead.
LINK_SILENT_S_MAX: Final = 45.0
#: A link is closed and opened anew after this long, so that revoked keys cannot live on.
LINK_AGE_S_MAX: Final = 12 * 3600.0
#: Full jitter between these; a link that lived `LINK_HEALTHY_S` starts again from the lower one.
RECONNECT_S_MIN: Final = 0.5
RECONNECT_S_MAX: Final = 30.0
#: After a refusal that will not mend itself soon.
RECONNECT_REFUSED_S: Final = 900.0
LINK_HEALTHY_S: Final = 60.0
#: The whole handshake, so that a slow caller cannot hold a socket open.
HANDSHAKE_S_MAX: Final = 15.0
#: What is read during the handshake gives it as much more time as a line of this speed takes: a
#: node that was away for long names thousands of logs.
HANDSHAKE_BYTES_PER_S_MIN: Final = 4 * KIB

#: An agent may be silent for so long at least before a project has it stopped: less is no silence.
SILENCE_STOP_S_MIN: Final = 1.0
#: And so long at most: what is longer is never.
SILENCE_STOP_S_MAX: Final = 30 * 86_400.0

# --- credentials --------------------------------------------------------------------------------
#: A capability lives this long; the node checks it against the hive's clock from `welcome`.
CAPABILITY_TTL_S: Final = 60
#: A token of a stream lives this long; the client takes a new one and goes on from its cursor.
STREAM_TOKEN_TTL_S: Final = 900
#: A token of an attempt lives this long; its node signs another for the next call.
ATTEMPT_TOKEN_TTL_S: Final = 300
#: An operation for a node that is away waits no longer; sent again it is as long after it left.
#: A node keeps the keys of what it carried out for longer than both together.
DEFERRED_S_MAX: Final = 7 * 86_400
#: Operations that may wait for one node.
DEFERRED_PER_NODE_MAX: Final = 1_000
#: Disagreement of clocks a token may show.
TOKEN_LEEWAY_S: Final = 30
#: A hive's generation further ahead of the clock than this is a lie or a broken clock.
GENERATION_AHEAD_S_MAX: Final = 86_400
