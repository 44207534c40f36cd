-- The data model of the engine, in one SQLite file. This file is the whole of it.
--
-- A workflow is one execution of a function, under an id that its caller chose. A run is one life of a workflow, from
-- its call to its return or its crash. Runs are numbered; the number is called epoch. A step is a named piece of work
-- of a workflow. Its recorded outcome is a checkpoint.
--
-- The life of a step:
--   begin  The run reaches the step and writes a row `running` with the number of the attempt. There is no effect yet.
--   call   The step has its effect, outside this file. If the process dies now, the row stays `running`, and the next
--          run calls the step again. Such a step is a zombie step; so the effect of a step should be idempotent.
--   end    The row becomes `completed` with an output, or `failed` with an error. Every later run gets the outcome from
--          this row, and the step is never called again.
-- A failure that is to be retried also has a row in `waits`: the instant at which the next attempt is due. The next
-- attempt begins in the transaction that moves the earlier one to `attempts`. So `steps` has one row for each step, and
-- nothing is lost. A transactional step has its effect in this file. Its begin, call and end are one transaction, so it
-- cannot become a zombie step.
--
-- The life of a workflow: its first run writes a row in `workflows` and one in `runs`. Each further run raises the
-- epoch and adds a row to `runs`, until the workflow is `completed` or `cancelled`. A `failed` workflow may be run
-- again. Every save names its epoch; a save under an older epoch changes nothing.
--
-- A value that is too large for its row is stored apart, in parts. The row names it by its hash:
-- {"$value": "<sha256>", "format": "frame/1", "bytes": 13400112, "preview": "200000 rows x 3 columns: ..."}
-- The parts are committed first and the row last, so no row names what is not there.
--
-- Instants are text: UTC, ISO 8601 with microseconds. `arguments`, `output`, `error` and `value` are JSON text that a
-- person can read. `checksum` is a CRC-32 of the texts of its row, since SQLite does not notice a flipped bit.

-- A workflow. Written when a run begins and when it ends. `status` is `running`, `completed`, `failed` or `cancelled`.
-- Further states, such as queued, follow from the other tables and are not stored.
create table if not exists workflows (
    id          text    not null primary key,
    function    text    not null,               -- module:qualname
    arguments   text    not null,               -- by parameter name, as they were passed
    status      text    not null,
    output      text,
    error       text,
    epoch       integer not null,               -- the number of its latest run
    checksum    integer not null,
    created_at  text    not null,
    updated_at  text    not null,
    parent_id   text,                           -- the workflow that called it, if it is a child workflow
    cancel_requested_at text                    -- its run notices at its next operation, or at once if it waits
);
create index if not exists cancel_requests on workflows (id) where cancel_requested_at is not null;
create index if not exists children on workflows (parent_id) where parent_id is not null;

-- The last epoch of a deleted workflow. Written by delete. A new workflow of the same id goes on counting from it, so
-- that a run that is still alive cannot save into the new workflow.
create table if not exists deleted (
    workflow_id text    not null primary key,
    epoch       integer not null
);

-- A run. Written by the process that makes it, when it begins and when it ends. `ended` is the status of the workflow
-- if the run ended with an outcome. Otherwise it is `interrupted`, by Ctrl+C or SIGTERM, as `reason` says; `stopped` if
-- the engine refused to go on (changed code, for example); `suspended` if the workflow only waited and gave its thread
-- back; `crashed` if the next run found it dead.
create table if not exists runs (
    workflow_id text    not null,
    epoch       integer not null,
    pid         integer not null,
    host        text    not null,
    started_at  text    not null,
    ended_at    text,                           -- null after a crash: its instant is not known
    ended       text,
    reason      text,                           -- why it ended: the signal, the error, the cancellation
    primary key (workflow_id, epoch)
);

-- A step, as of its latest attempt. Written by the thread of the step before its effect and after it. (With `in`
-- instead of three comparisons, SQLite would make a temporary table for each row.)
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
    fingerprint text,                           -- of the arguments; null if nothing of them can be compared
    error       text,
    checksum    integer,
    started_at  text    not null,
    ended_at    text,
    thread      text    not null,               -- main, a worker, or the branch that ran it
    primary key (workflow_id, step_key)
);

create index if not exists published on steps (workflow_id, name) where kind = 'publish';

-- A wait: a step waits for an instant, a message or the end of a child workflow, whichever comes first. Written when
-- the wait begins; deleted in the transaction that saves its outcome. A wait of a `failed` step is for its next
-- attempt.
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

-- A message to a workflow. Written by its sender, from any process. The transaction that completes the receiving step
-- sets `received_by`. Messages are received in the order of sending. A `message_key` makes a repeated send harmless.
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

-- A superseded attempt of a step: the columns of `steps`, and the run that moved it here. Written when the next attempt
-- begins, by rewind, and if the code took another way after a failed step was tried anew.
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

-- What a running step says of its progress, the latest of each name. Written by a thread of the run, a few times a
-- second at most, and not flushed to disk. No code of a workflow reads it. It counts while `steps` says that this
-- attempt is running, and `epoch` is the latest run. Deleted when the run ends, so only a crash leaves rows. A row
-- without a name is of a map: `step_key` is that of its first step, `value` counts those of its steps that have ended.
create table if not exists step_progress (
    workflow_id text    not null,
    step_key    text    not null,
    name        text    not null,
    value       text    not null,
    total       real,                           -- what value counts up to
    attempt     integer not null,
    epoch       integer not null,
    at          text    not null,
    primary key (workflow_id, step_key, name)
) without rowid;

-- A large value: its hash is its name, so equal content is stored once, for all attempts, forks and workflows. Written
-- after its last part, and never changed. It stays while `value_uses` has a row of it; then delete or gc drops it.
create table if not exists large_values (
    sha256      text    not null primary key,   -- of the lengths, the head and the buffers
    head        text    not null,               -- JSON: what the buffers are
    sizes       text    not null,               -- JSON: the bytes of each buffer
    parts       integer not null,
    stored_at   text    not null
);

-- A part of a large value: the next bytes of its buffers, 1 MiB at most. Written by the thread of the step, each in a
-- transaction of its own, so that other threads save their steps in between. Parts are not flushed to disk: they come
-- before the row in the -wal, and the flush of the row covers them. Parts without their value are what a crash left.
create table if not exists value_parts (
    sha256      text    not null,
    number      integer not null,
    data        blob    not null,
    primary key (sha256, number)
);

-- Which rows name a large value. Written in the transaction of the row, and deleted with the row, so that a search for
-- what is not used any more need not read the texts of all rows. `used_by` is a step key (for the row of the step and
-- its attempts), `arguments` or `output` of the workflow, or `messages` to it. It is `run 3` from the instant at which
-- the third run begins to save the value until that run ends, so that nothing drops the value before its row is saved.
-- If no process runs the workflow, such a row was left by a crash.
create table if not exists value_uses (
    workflow_id text    not null,
    used_by     text    not null,
    sha256      text    not null,
    primary key (workflow_id, used_by, sha256)
) without rowid;
create index if not exists uses_of_values on value_uses (sha256);
