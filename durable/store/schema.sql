-- The whole persistent model.
--
-- The life of a step:
--   1. A run of its workflow reaches it. A row `running` is written, with the attempt number, before the effect.
--   2. The effect happens, somewhere in the world. The database does not know it yet: a crash now leaves the row
--      `running`, and the next run tries the step again. That is a zombie step, and why steps want to be idempotent.
--   3. The row becomes `completed` with its output, or `failed` with its error. This is the checkpoint. From here
--      on every later run is answered from the row, and the step never runs again.
-- The effect of a transactional step is in this file: 1 to 3 are one transaction then, and it is never a zombie step.
-- A try that a later one supersedes (left `running` by a crash, or `failed` and tried anew) moves to `attempts` in
-- the same transaction that starts the later one. So `steps` always holds one row a step, and nothing is lost.
--
-- The life of a workflow: a row in `workflows` when it is first run, one more row in `runs` and the next `epoch` each
-- time it is run again, until it is `completed`. Every save names its epoch; one of an older epoch changes nothing.
--
-- Instants are UTC, ISO 8601 with microseconds. `output`, `arguments` and `error` are JSON that a person can read.
-- `checksum` is a CRC-32 over the values stored in its row, since SQLite does not notice a flipped bit.

-- One execution of a workflow function, named by the user. Written when a run begins and when it ends.
create table if not exists workflows (
    id          text    not null primary key,
    function    text    not null,               -- module:qualname
    arguments   text    not null,               -- as called, by parameter name
    status      text    not null check (status in ('running', 'completed', 'failed', 'cancelled')),
    output      text,
    error       text,
    epoch       integer not null,               -- the number of its latest run
    checksum    integer not null,
    created_at  text    not null,
    updated_at  text    not null,
    parent_id   text,                           -- of a child workflow, the workflow that asked for it
    cancel_requested_at text                    -- its owner notices at its next operation, and at once when it waits
);
create index if not exists cancel_requests on workflows (id) where cancel_requested_at is not null;
create index if not exists children on workflows (parent_id) where parent_id is not null;

-- The last epoch of an id that was deleted. Written by delete, so that an old run of it that is still somewhere alive can
-- never save into a new one.
create table if not exists deleted (
    workflow_id text    not null primary key,
    epoch       integer not null
);

-- One life of a workflow, from call to return or crash. Written by the process that runs it; a life that ended without
-- a word is marked `crashed` by the next one; one that the engine refused to go on with (changed code, say) is `stopped`;
-- one that had nothing to do but wait, and gave its thread back, is `suspended`.
create table if not exists runs (
    workflow_id text    not null,
    epoch       integer not null,
    pid         integer not null,
    host        text    not null,
    started_at  text    not null,
    ended_at    text,                           -- of a crash nobody knows the instant
    ended       text check (ended in (
                    'completed', 'failed', 'cancelled', 'interrupted', 'stopped', 'suspended', 'crashed')),
    primary key (workflow_id, epoch)
);

-- One step, as of its latest attempt. Written by the step's own thread, twice: before its effect and after it. (For an
-- `in` of three, as for the status of a workflow, SQLite would make a temporary table with each row.)
create table if not exists steps (
    workflow_id text    not null,
    step_key    text    not null,               -- create_record_1, or equip_2/order_laptop_1 within a branch
    status      text    not null check (status = 'running' or status = 'completed' or status = 'failed'),
    output      text,
    name        text    not null,
    kind        text    not null,
    position    integer not null,               -- its place in program order, within its scope
    attempt     integer not null,
    epoch       integer not null,               -- the run that made this attempt
    fingerprint text,                           -- of the arguments, null where they have no JSON form
    error       text,
    checksum    integer,
    started_at  text    not null,
    ended_at    text,
    thread      text    not null,               -- main, a worker, or the branch that ran it
    primary key (workflow_id, step_key)
);

create index if not exists published on steps (workflow_id, name) where kind = 'publish';

-- What a step waits for: an instant, a message, the end of a child workflow. Written when the wait begins, deleted in
-- the transaction that saves its outcome. Beside a `failed` row it says when the next attempt is due: then the failure
-- is not the step's outcome yet.
create table if not exists waits (
    workflow_id text    not null,
    step_key    text    not null,
    wake_at     text,
    event       text,
    child_id    text,
    primary key (workflow_id, step_key)
);
create index if not exists timers on waits (wake_at) where wake_at is not null;
create index if not exists awaited_events on waits (workflow_id, event) where event is not null;
create index if not exists awaited_children on waits (child_id) where child_id is not null;

-- A message to a workflow. Written by whoever sends it, from any process; `received_by` is set in the transaction that
-- completes the step that waited for it. First sent is first received. A `message_key` makes a repeated send harmless.
create table if not exists messages (
    id          integer not null primary key,   -- the order of sending
    workflow_id text    not null,
    event       text    not null,
    value       text    not null,
    message_key text,
    checksum    integer not null,
    sent_at     text    not null,
    received_by text,                           -- a step key
    unique (workflow_id, message_key)
);
create index if not exists unreceived on messages (workflow_id, event, id) where received_by is null;

-- A try that a later run left behind: the columns of `steps`, and the run that moved it here.
create table if not exists attempts (
    workflow_id text    not null,
    step_key    text    not null,
    status      text    not null,
    output      text,
    name        text    not null,
    kind        text    not null,
    position    integer not null,
    attempt     integer not null,
    epoch       integer not null,
    fingerprint text,
    error       text,
    checksum    integer,
    started_at  text    not null,
    ended_at    text,
    thread      text    not null,
    superseded_by integer not null,             -- an epoch
    primary key (workflow_id, step_key, attempt)
);
