-- The hive's first schema. SQLite's types: PostgreSQL reads INTEGER as BIGINT, BLOB as BYTEA, and
-- neither STRICT nor WITHOUT ROWID. Times are wall-clock milliseconds, for people. (rank, seq) is
-- the position that set a row. Lists and small records inside a row are JSON text.

-- The one row of this hive. Counters are raised in the transactions that use them.
CREATE TABLE hive (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    hive_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    change_no INTEGER NOT NULL,
    event_no INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;
INSERT INTO hive (id, hive_id, generation, change_no, event_no, created_at_ms)
VALUES (1, '', 0, 0, 0, 0);

CREATE TABLE node (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    public_key BLOB NOT NULL,
    kind TEXT NOT NULL,
    labels TEXT NOT NULL,
    draining INTEGER NOT NULL,
    joined_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER,
    quarantined_at_ms INTEGER,
    quarantine_reason TEXT,
    -- msgpack of protocol.holders.Holder
    holder BLOB NOT NULL,
    released_instance INTEGER,
    link_no INTEGER NOT NULL,
    linked_at_ms INTEGER,
    last_seen_at_ms INTEGER,
    last_activity_at_ms INTEGER,
    activity TEXT NOT NULL,
    slots INTEGER NOT NULL,
    slots_busy INTEGER NOT NULL,
    outbox TEXT NOT NULL,
    executors TEXT NOT NULL,
    agents TEXT NOT NULL,
    os TEXT NOT NULL,
    arch TEXT NOT NULL,
    version TEXT NOT NULL,
    cores INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    direct_urls TEXT NOT NULL,
    newest_epoch INTEGER,
    newest_rank INTEGER NOT NULL,
    newest_seq INTEGER NOT NULL,
    -- The newest whole snapshot: what is older and not named by it, the node has forgotten.
    snapshot_rank INTEGER NOT NULL,
    snapshot_seq INTEGER NOT NULL,
    -- A snapshot was begun and not ended: what is shown is of two times.
    snapshot_broken INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    seq INTEGER NOT NULL
) STRICT;
CREATE INDEX node_by_name ON node (name);

-- One journal of a node for each of its starts. `rank` is given at first sight and never changes.
CREATE TABLE epoch (
    node_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    digest BLOB NOT NULL,
    fork_seq INTEGER,
    first_seen_ms INTEGER NOT NULL,
    PRIMARY KEY (node_id, epoch)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX epoch_by_rank ON epoch (node_id, rank);

CREATE TABLE op (
    node_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (node_id, epoch, seq)
) STRICT, WITHOUT ROWID;

-- Kinds this release does not know, kept as they came and applied after an upgrade.
CREATE TABLE unknown_op (
    node_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (node_id, kind, entity_id, epoch, seq)
) STRICT;

-- What could not be applied: kept, counted, shown.
CREATE TABLE dead_op (
    node_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    reason TEXT NOT NULL,
    kept_at_ms INTEGER NOT NULL,
    PRIMARY KEY (node_id, kind, entity_id, epoch, seq)
) STRICT;

CREATE TABLE project (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    repo_url TEXT,
    identity TEXT NOT NULL,
    default_branch TEXT,
    size TEXT,
    sync_policy TEXT NOT NULL,
    setup_script TEXT,
    cleanup_script TEXT,
    dev_script TEXT,
    copy_files TEXT NOT NULL,
    keep_worktree TEXT NOT NULL,
    review TEXT NOT NULL,
    policies TEXT NOT NULL,
    profiles TEXT NOT NULL,
    variables TEXT NOT NULL,
    recovered INTEGER NOT NULL,
    archived INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    deleted_at_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX project_by_name ON project (name) WHERE deleted_at_ms IS NULL;
CREATE UNIQUE INDEX project_by_identity ON project (identity)
    WHERE deleted_at_ms IS NULL AND identity <> '';

CREATE TABLE checkout (
    id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL,
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    identity TEXT NOT NULL,
    default_branch TEXT,
    removed INTEGER NOT NULL,
    project_id TEXT,
    problem TEXT NOT NULL,
    rank INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    snapshot_id TEXT,
    forgotten_at_ms INTEGER
) STRICT;
CREATE INDEX checkout_by_node ON checkout (node_id);
CREATE INDEX checkout_by_project ON checkout (project_id);

-- Shared tasks are the hive's own (node_id is null); a local task is its node's.
CREATE TABLE task (
    id TEXT PRIMARY KEY,
    node_id TEXT,
    project_id TEXT,
    checkout_id TEXT,
    title TEXT NOT NULL,
    description TEXT NOT NULL,
    type TEXT NOT NULL,
    priority TEXT NOT NULL,
    size TEXT,
    base_branch TEXT,
    target_branch TEXT,
    status TEXT NOT NULL,
    parent_id TEXT,
    depends_on TEXT NOT NULL,
    labels TEXT NOT NULL,
    variables TEXT NOT NULL,
    position INTEGER NOT NULL,
    result TEXT,
    recovered INTEGER NOT NULL,
    archived INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    completed_at_ms INTEGER,
    deleted_at_ms INTEGER,
    rank INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    snapshot_id TEXT,
    forgotten_at_ms INTEGER
) STRICT;
CREATE INDEX task_by_age ON task (created_at_ms, id);
-- People name a row by the last digits of its id.
CREATE INDEX task_by_end ON task (substr(id, -8));
CREATE INDEX task_by_project ON task (project_id, created_at_ms, id);
CREATE INDEX task_by_node ON task (node_id) WHERE node_id IS NOT NULL;

-- Texts that tasks are made from; without a project, for all of them.
CREATE TABLE template (
    id TEXT PRIMARY KEY,
    project_id TEXT,
    name TEXT NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX template_by_name ON template (name, id);

CREATE TABLE attempt (
    id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    project_id TEXT,
    checkout_id TEXT NOT NULL,
    task_title TEXT NOT NULL,
    executor TEXT NOT NULL,
    profile TEXT,
    branch TEXT NOT NULL,
    target_branch TEXT,
    base_commit TEXT NOT NULL,
    head_commit TEXT,
    worktree TEXT,
    phase TEXT NOT NULL,
    outcome TEXT,
    reason TEXT,
    executions TEXT NOT NULL,
    hold_until_ms INTEGER,
    fence TEXT,
    start_key TEXT,
    saved_ref TEXT,
    created_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER,
    -- JSON, as the node told them.
    merges TEXT NOT NULL,
    pr TEXT,
    -- Until when its turn waits for a usage limit; since when its agent is silent, and told of.
    parked_until_ms INTEGER,
    silent_since_ms INTEGER,
    superseded INTEGER NOT NULL,
    sync_state TEXT NOT NULL,
    gone_reason TEXT,
    rank INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    snapshot_id TEXT,
    forgotten_at_ms INTEGER
) STRICT;
CREATE INDEX attempt_by_age ON attempt (created_at_ms, id);
CREATE INDEX attempt_by_end ON attempt (substr(id, -8));
CREATE INDEX attempt_by_task ON attempt (task_id, created_at_ms, id);
CREATE INDEX attempt_by_node ON attempt (node_id, created_at_ms, id);
CREATE INDEX attempt_by_project ON attempt (project_id, created_at_ms, id);
CREATE INDEX attempt_with_worktree ON attempt (node_id, ended_at_ms, id)
    WHERE worktree IS NOT NULL;
CREATE INDEX attempt_partial ON attempt (node_id, created_at_ms, id)
    WHERE sync_state = 'partial';

CREATE TABLE execution (
    id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL,
    attempt_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    script TEXT,
    argv TEXT NOT NULL,
    process TEXT,
    head_before TEXT,
    head_after TEXT,
    status TEXT NOT NULL,
    exit_code INTEGER,
    signal INTEGER,
    reason TEXT,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER,
    rank INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    snapshot_id TEXT,
    forgotten_at_ms INTEGER
) STRICT;
CREATE INDEX execution_by_end ON execution (substr(id, -8));
CREATE INDEX execution_by_attempt ON execution (attempt_id, started_at_ms, id);
CREATE INDEX execution_by_node ON execution (node_id);

-- A conversation with an agent. One without a node is an external agent's: the hive keeps it itself,
-- and `task_id`, `heartbeat_at_ms` and `created_by` are of those alone.
CREATE TABLE session (
    id TEXT PRIMARY KEY,
    node_id TEXT,
    attempt_id TEXT,
    task_id TEXT,
    agent_session_id TEXT,
    agent_session_at_ms INTEGER,
    executor TEXT NOT NULL,
    profile TEXT,
    agent TEXT,
    agent_version TEXT,
    capabilities TEXT NOT NULL,
    topic TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    message_count INTEGER NOT NULL,
    turn_count INTEGER NOT NULL,
    usage TEXT,
    forked_from TEXT,
    created_at_ms INTEGER NOT NULL,
    last_activity_at_ms INTEGER NOT NULL,
    closed_at_ms INTEGER,
    parked_until_ms INTEGER,
    heartbeat_at_ms INTEGER,
    created_by TEXT NOT NULL,
    rank INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    snapshot_id TEXT,
    forgotten_at_ms INTEGER
) STRICT;
CREATE INDEX session_by_age ON session (created_at_ms, id);
CREATE INDEX session_by_end ON session (substr(id, -8));
CREATE INDEX session_by_attempt ON session (attempt_id, created_at_ms, id);
CREATE INDEX session_by_task ON session (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX session_by_node ON session (node_id, created_at_ms, id) WHERE node_id IS NOT NULL;
CREATE INDEX session_by_status ON session (status, created_at_ms, id);
CREATE UNIQUE INDEX session_external ON session (agent_session_id) WHERE node_id IS NULL;

CREATE TABLE turn (
    id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL,
    attempt_id TEXT NOT NULL,
    session_id TEXT,
    execution_id TEXT,
    turn_no INTEGER,
    -- Orders those that have not begun.
    place INTEGER NOT NULL,
    status TEXT NOT NULL,
    prompt TEXT NOT NULL,
    truncated INTEGER NOT NULL,
    author TEXT NOT NULL,
    stop_reason TEXT,
    head_before TEXT,
    head_after TEXT,
    usage TEXT,
    created_at_ms INTEGER NOT NULL,
    begun_at_ms INTEGER,
    ended_at_ms INTEGER,
    rank INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    snapshot_id TEXT,
    forgotten_at_ms INTEGER
) STRICT;
CREATE INDEX turn_by_session ON turn (session_id, turn_no, id);
CREATE INDEX turn_by_attempt ON turn (attempt_id, session_id, place, id);
CREATE INDEX turn_by_node ON turn (node_id);

-- `message_seq` orders a session; two live messages never share a place in it. `sender_id` is what
-- the sender of an external session's message calls it.
CREATE TABLE message (
    id TEXT PRIMARY KEY,
    node_id TEXT,
    session_id TEXT NOT NULL,
    attempt_id TEXT,
    turn_id TEXT,
    execution_id TEXT,
    message_seq INTEGER NOT NULL,
    role TEXT NOT NULL,
    author_kind TEXT NOT NULL,
    author TEXT NOT NULL,
    content TEXT NOT NULL,
    truncated INTEGER NOT NULL,
    tool TEXT,
    plan TEXT NOT NULL,
    request_id TEXT,
    parent_id TEXT,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    sender_id TEXT,
    rank INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    snapshot_id TEXT,
    forgotten_at_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX message_by_place ON message (session_id, message_seq)
    WHERE forgotten_at_ms IS NULL;
CREATE UNIQUE INDEX message_by_sender ON message (session_id, sender_id)
    WHERE sender_id IS NOT NULL;
CREATE INDEX message_by_node ON message (node_id);

-- Runs of a session's messages that its node was asked for and has no more than the hive.
CREATE TABLE message_gap (
    session_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    PRIMARY KEY (session_id, first_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_gap_by_node ON message_gap (node_id);

-- What an agent asks of people. `options`, `form`, `tool` and `answer` in JSON, as the node told them.
CREATE TABLE request (
    id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL,
    attempt_id TEXT NOT NULL,
    session_id TEXT,
    turn_id TEXT,
    execution_id TEXT,
    message_id TEXT,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    options TEXT NOT NULL,
    form TEXT,
    free_text INTEGER NOT NULL,
    tool TEXT,
    status TEXT NOT NULL,
    reason TEXT,
    answer TEXT,
    deadline_ms INTEGER,
    reminded_at_ms INTEGER,
    opened_at_ms INTEGER NOT NULL,
    settled_at_ms INTEGER,
    rank INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    snapshot_id TEXT,
    forgotten_at_ms INTEGER
) STRICT;
CREATE INDEX request_by_age ON request (opened_at_ms, id);
CREATE INDEX request_by_end ON request (substr(id, -8));
CREATE INDEX request_by_status ON request (status, opened_at_ms, id);
CREATE INDEX request_by_attempt ON request (attempt_id, opened_at_ms, id);
CREATE INDEX request_by_node ON request (node_id, opened_at_ms, id);

-- A log and its cursor. The end_ columns are what its node says the whole log is.
CREATE TABLE log (
    execution_id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL,
    next_chunk INTEGER NOT NULL,
    next_entry INTEGER NOT NULL,
    digest BLOB NOT NULL,
    raw_bytes INTEGER NOT NULL,
    blob_bytes INTEGER NOT NULL,
    gap_bytes INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    end_chunks INTEGER,
    end_entries INTEGER,
    end_bytes INTEGER,
    end_digest BLOB,
    end_chain BLOB,
    end_rank INTEGER NOT NULL,
    end_seq INTEGER NOT NULL,
    gone_reason TEXT
) STRICT;
CREATE INDEX log_by_node ON log (node_id);

-- Chunks as they came; a gap has no blob. The row of a gap stands for all numbers it covers.
CREATE TABLE chunk (
    execution_id TEXT NOT NULL,
    chunk_seq INTEGER NOT NULL,
    through_seq INTEGER NOT NULL,
    first_entry INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    crc32 INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    style BLOB NOT NULL,
    gap_reason TEXT,
    digest BLOB NOT NULL,
    blob BLOB,
    PRIMARY KEY (execution_id, chunk_seq)
) STRICT;
CREATE INDEX chunk_by_entry ON chunk (execution_id, first_entry, chunk_seq);
CREATE INDEX chunk_gap ON chunk (execution_id, chunk_seq) WHERE gap_reason IS NOT NULL;

CREATE TABLE need (
    request_id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    max_bytes INTEGER NOT NULL,
    status TEXT NOT NULL,
    asked_at_ms INTEGER NOT NULL,
    done_at_ms INTEGER
) STRICT;
CREATE INDEX need_open ON need (node_id, asked_at_ms) WHERE status = 'open';

CREATE TABLE need_item (
    request_id TEXT NOT NULL,
    place INTEGER NOT NULL,
    node_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    outcome TEXT,
    sent INTEGER NOT NULL,
    reason TEXT NOT NULL,
    -- Of messages: how many the answer said there are, and the last one it told of.
    due INTEGER NOT NULL,
    told_through INTEGER NOT NULL,
    -- Its node told of all it owns meanwhile.
    stale INTEGER NOT NULL,
    PRIMARY KEY (request_id, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX need_item_by_id ON need_item (node_id, id);

-- The activity feed and the audit log. `no` comes from the hive's row: commit order.
CREATE TABLE event (
    no INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    audit INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    what TEXT NOT NULL,
    what_id TEXT NOT NULL,
    from_state TEXT,
    to_state TEXT,
    why TEXT NOT NULL,
    level TEXT NOT NULL,
    node_id TEXT,
    project_id TEXT,
    task_id TEXT,
    attempt_id TEXT,
    details TEXT NOT NULL
) STRICT;
CREATE INDEX event_by_attempt ON event (attempt_id, no) WHERE attempt_id IS NOT NULL;
CREATE INDEX event_by_project ON event (project_id, no) WHERE project_id IS NOT NULL;
CREATE INDEX event_by_node ON event (node_id, no) WHERE node_id IS NOT NULL;

-- What viewers may want to read anew: the newest only.
CREATE TABLE change (
    change_no INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    kind TEXT NOT NULL,
    ids TEXT NOT NULL
) STRICT;

-- The hive's own record of each changing call.
CREATE TABLE operation (
    key TEXT PRIMARY KEY,
    body_hash TEXT NOT NULL,
    operation TEXT NOT NULL,
    node_id TEXT,
    attempt_id TEXT,
    task_id TEXT,
    project_id TEXT,
    actor TEXT NOT NULL,
    status TEXT NOT NULL,
    -- What left for the node, until its answer is known: sent again, it is the same.
    body BLOB,
    reply BLOB,
    error TEXT,
    head_before TEXT,
    head_after TEXT,
    sent_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER
) STRICT;
CREATE INDEX operation_by_age ON operation (sent_at_ms, key);

CREATE INDEX operation_by_attempt ON operation (attempt_id, sent_at_ms, key);
CREATE INDEX operation_open ON operation (node_id, sent_at_ms, key)
    WHERE status IN ('waiting', 'delivered');

-- What an operation of the table above needs to leave later: asked of a node while it was away.
CREATE TABLE deferred_operation (
    key TEXT PRIMARY KEY,
    body BLOB NOT NULL,
    expected_head TEXT,
    -- What the caller saw: the newest run of the agent (empty: none) and the attempt's phase.
    expected_execution TEXT NOT NULL,
    phase TEXT NOT NULL,
    token_id TEXT NOT NULL,
    deadline_s REAL NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    -- After a restore: it leaves once a person says so.
    held INTEGER NOT NULL,
    first_delivered_at_ms INTEGER,
    deliveries INTEGER NOT NULL
) STRICT;

-- Changing operations as nodes say they carried them out.
CREATE TABLE node_operation (
    node_id TEXT NOT NULL,
    id TEXT NOT NULL,
    key TEXT NOT NULL,
    operation TEXT NOT NULL,
    attempt_id TEXT,
    actor TEXT NOT NULL,
    status TEXT NOT NULL,
    error_code TEXT,
    head_before TEXT,
    head_after TEXT,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER,
    rank INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (node_id, id)
) STRICT;
CREATE INDEX node_operation_by_key ON node_operation (key);
CREATE INDEX node_operation_by_age ON node_operation (started_at_ms, key);
CREATE INDEX node_operation_by_attempt ON node_operation (attempt_id, started_at_ms, key);

CREATE TABLE token (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    revoked_at_ms INTEGER,
    last_used_at_ms INTEGER
) STRICT;

CREATE TABLE join_token (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    label TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    used_at_ms INTEGER,
    used_public_key BLOB,
    node_id TEXT
) STRICT;
