-- The node's truth. Blobs are BLOB here and BYTEA in PostgreSQL.
CREATE TABLE schema_version (
    version BIGINT PRIMARY KEY,
    name TEXT NOT NULL
);

-- Epochs in order of birth. The current one is the newest.
CREATE TABLE epoch (
    epoch BIGINT PRIMARY KEY,
    birth BIGINT NOT NULL UNIQUE,
    first_kept BIGINT NOT NULL,
    last BIGINT NOT NULL,
    -- Running digest after op `last`, and after the newest op that was pruned.
    digest BLOB NOT NULL,
    pruned_digest BLOB NOT NULL,
    -- The hive's mark when it was last heard of: for people; every welcome names it anew.
    mark_seen BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE op (
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    kind TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    body BLOB NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (epoch, seq)
);

-- The newest state of each entity, with the position of the op that set it.
CREATE TABLE record (
    kind TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    body BLOB NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (kind, entity_id)
);

-- What is asked of attempts and executions beside their state; `body` in `record` is the state.
CREATE TABLE attempt (
    id TEXT PRIMARY KEY,
    phase TEXT NOT NULL,
    task_id TEXT NOT NULL,
    checkout_id TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    start_key TEXT UNIQUE,
    -- Until when the worktree of an ended attempt is held; NULL where that is not limited by time.
    hold_until_ms BIGINT
);
CREATE INDEX attempt_by_hold ON attempt (hold_until_ms) WHERE hold_until_ms IS NOT NULL;
CREATE INDEX attempt_by_phase ON attempt (phase);
CREATE INDEX attempt_by_task ON attempt (task_id);
CREATE INDEX attempt_by_age ON attempt (created_at_ms, id);

CREATE TABLE execution (
    id TEXT PRIMARY KEY,
    attempt_id TEXT NOT NULL,
    started_at_ms BIGINT NOT NULL,
    status TEXT NOT NULL
);
CREATE INDEX execution_by_attempt ON execution (attempt_id);
CREATE INDEX execution_by_status ON execution (status);

-- What the node alone knows of an attempt: the request that started it (its environment may hold
-- secrets, so it is never in an op), whether a stop was asked for, what its end will be.
CREATE TABLE attempt_plan (
    attempt_id TEXT PRIMARY KEY,
    request BLOB NOT NULL,
    stop_asked_at_ms BIGINT,
    stop_grace_s REAL,
    outcome TEXT,
    reason TEXT,
    -- Until when someone asked for the worktree to be kept; NULL where nobody did.
    hold_until_ms BIGINT
);

-- What the agent is to do, one go after the other. `place` orders the queue; `no` counts those
-- that have begun. A turn's executions are the attempt's after its first `executions_before`.
CREATE TABLE turn (
    id TEXT PRIMARY KEY,
    attempt_id TEXT NOT NULL,
    status TEXT NOT NULL,
    place BIGINT NOT NULL,
    no BIGINT,
    command TEXT,
    prompt TEXT,
    profile TEXT,
    author TEXT NOT NULL,
    reason TEXT,
    executions_before BIGINT NOT NULL,
    -- As it was when it began: one that waited for a usage limit goes on in another execution.
    first_executions_before BIGINT NOT NULL DEFAULT 0,
    setup_wanted INTEGER NOT NULL,
    created_at_ms BIGINT NOT NULL,
    begun_at_ms BIGINT,
    ended_at_ms BIGINT,
    interrupt_asked_at_ms BIGINT,
    -- What of the prompt goes into ops: without secrets, and cut.
    shown TEXT NOT NULL,
    truncated INTEGER NOT NULL,
    images BLOB,
    -- It begins a session of its own, from where the former one stands.
    forks INTEGER NOT NULL DEFAULT 0,
    -- It is to be said into the turn that runs, where the agent takes that: wanted, or told.
    steers TEXT,
    -- The conversation it is a turn of, and the process that was given its prompt.
    session_id TEXT,
    execution_id TEXT,
    -- Whether the agent was told of the interrupt.
    interrupt_told INTEGER NOT NULL DEFAULT 0,
    -- Of one that waited at the hive: the newest run of the agent that its author saw.
    asked_for TEXT,
    stop_reason TEXT,
    head_before TEXT,
    head_after TEXT,
    usage BLOB,
    -- Until when it waits for a usage limit to end, and how often it did. Where some of its work was
    -- done before, the agent is told to go on; else it is given the prompt again.
    parked_until_ms BIGINT,
    parks INTEGER NOT NULL DEFAULT 0,
    continues INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX turn_by_attempt ON turn (attempt_id, status, place);
CREATE UNIQUE INDEX turn_by_no ON turn (attempt_id, no) WHERE no IS NOT NULL;

-- What agents ask of people; their state stands in `record`. `key` is what the machine of the
-- agent's process calls a request: until it is passed on (`delivered`), the two name one request.
CREATE TABLE request (
    id TEXT PRIMARY KEY,
    execution_id TEXT NOT NULL,
    key TEXT NOT NULL,
    attempt_id TEXT NOT NULL,
    turn_id TEXT,
    session_id TEXT,
    status TEXT NOT NULL,
    opened_at_ms BIGINT NOT NULL,
    settled_at_ms BIGINT,
    deadline_ms BIGINT,
    -- When people are to be reminded next.
    remind_at_ms BIGINT,
    -- What the agent is to be told, until it is; by a tool, until its program ends. It may hold what
    -- nobody else may see.
    reply BLOB,
    delivered INTEGER NOT NULL
);
CREATE UNIQUE INDEX request_by_key ON request (execution_id, key) WHERE delivered = 0;
CREATE INDEX request_by_status ON request (status, deadline_ms);
CREATE INDEX request_by_attempt ON request (attempt_id, id);

-- What a person said of a tool once for all of a session.
CREATE TABLE session_rule (
    session_id TEXT NOT NULL,
    tool_key TEXT NOT NULL,
    action TEXT NOT NULL,
    author TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (session_id, tool_key)
);

-- Conversations; their state stands in `record`. The newest of an attempt is the one it goes on with.
CREATE TABLE session (
    id TEXT PRIMARY KEY,
    attempt_id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    last_activity_at_ms BIGINT NOT NULL
);
CREATE INDEX session_by_attempt ON session (attempt_id, created_at_ms);
CREATE INDEX session_by_status ON session (status, last_activity_at_ms);

-- Messages, by what the machine of their agent calls them; their state stands in `record`. `seq`
-- is given once a message is whole: before, its text is shown live under its id.
CREATE TABLE message (
    id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    execution_id TEXT,
    key TEXT,
    seq BIGINT,
    -- Counts the changes of its session's messages: which of them this one's newest is.
    change BIGINT
);
CREATE UNIQUE INDEX message_by_change ON message (session_id, change) WHERE change IS NOT NULL;
CREATE UNIQUE INDEX message_by_seq ON message (session_id, seq) WHERE seq IS NOT NULL;
CREATE UNIQUE INDEX message_by_key ON message (execution_id, key) WHERE key IS NOT NULL;

-- How far each conversation with an agent's process is: the machine's state, and where in the
-- spool the first line begins that it has not seen.
CREATE TABLE conversation (
    execution_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    machine BLOB NOT NULL,
    spool_segment BIGINT NOT NULL,
    spool_offset BIGINT NOT NULL,
    stdout_bytes BIGINT NOT NULL,
    stderr_bytes BIGINT NOT NULL,
    -- All that was ever to be said to the process.
    input_bytes BIGINT NOT NULL,
    -- The agent has a session for us and takes prompts.
    ready INTEGER NOT NULL DEFAULT 0,
    -- Nothing more is said to this process: why.
    closing TEXT,
    -- When it was last heard or spoken to, and how long it has been silent since, as counted by a
    -- node agent that was awake.
    heard_at_ms BIGINT NOT NULL DEFAULT 0,
    silent_ms BIGINT NOT NULL DEFAULT 0
);

-- What is to be said to an agent's process, by where in its input it begins, until its supervisor
-- has it.
CREATE TABLE agent_input (
    execution_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    line BLOB NOT NULL,
    PRIMARY KEY (execution_id, at)
);

-- Worktrees that are to be removed, from the decision until it is done.
CREATE TABLE worktree_removal (
    attempt_id TEXT PRIMARY KEY,
    lose_nested INTEGER NOT NULL,
    planned_at_ms BIGINT NOT NULL
);

CREATE TABLE checkout (
    id TEXT PRIMARY KEY,
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    removed INTEGER NOT NULL
);

-- Idempotency keys of changing operations: an INTENT has neither reply nor error, a RESULT one.
-- The record of the operation itself stands in `record`, under the digest of the key.
CREATE TABLE operation_key (
    key TEXT PRIMARY KEY,
    body_hash TEXT NOT NULL,
    intent BLOB NOT NULL,
    -- What was asked and what will be done, as long as there is no RESULT.
    asked BLOB,
    reply BLOB,
    error BLOB,
    started_at_ms BIGINT NOT NULL
);
CREATE INDEX operation_key_by_age ON operation_key (started_at_ms);

CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
);

-- What the hive made of each checkout.
CREATE TABLE project_link (
    checkout_id TEXT PRIMARY KEY,
    body BLOB NOT NULL
);
