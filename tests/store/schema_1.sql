-- The whole persistent model.
--
-- The life of a step:
--   1. A run of its workflow reaches it. A row `running` is written, with the attempt number, before the effect.
--   2. The effect happens, somewhere in the world. The database does not know it yet: a crash now leaves the row
--      `running`, and the next run tries the step again. That is a zombie step, and why steps want to be idempotent.
--   3. The row becomes `completed` with its output, or `failed` with its error. This is the checkpoint. From here
--      on every later run is answered from the row, and the step never runs again.
-- A try that a later one supersedes (left `running` by a crash, or `failed` and tried anew) moves to `attempts` in
-- the same transaction that starts the later one. So `steps` always holds one row a step, and nothing is lost.
--
-- The life of a workflow: a row in `workflows` when it is first run, one more row in `runs` and the next `epoch` each
-- time it is run again, until it is `completed`. Every save names its epoch; one of an older epoch changes nothing.
--
-- Instants are UTC, ISO 8601 with microseconds. `output`, `arguments` and `error` are JSON that a person can read.
-- `checksum` is a CRC-32 over the values stored in its row, since SQLite does not notice a flipped bit.

-- One execution of a workflow function, named by the user. Written when a run begins and when it ends.
create table workflows (
    id          text    not null primary key,
    function    text    not null,               -- module:qualname
    arguments   text    not null,               -- as called, by parameter name
    status      text    not null check (status in ('running', 'completed', 'failed', 'cancelled')),
    output      text,
    error       text,
    epoch       integer not null,               -- the number of its latest run
    checksum    integer not null,
    created_at  text    not null,
    updated_at  text    not null
);

-- The last epoch of an id that was deleted. Written by delete, so that an old run of it that is still somewhere alive can
-- never save into a new one.
create table deleted (
    workflow_id text    not null primary key,
    epoch       integer not null
);

-- One life of a workflow, from call to return or crash. Written by the process that runs it; a life that ended without
-- a word is marked `crashed` by the next one; one that the engine refused to go on with (changed code, say) is `stopped`.
create table runs (
    workflow_id text    not null,
    epoch       integer not null,
    pid         integer not null,
    host        text    not null,
    started_at  text    not null,
    ended_at    text,                           -- of a crash nobody knows the instant
    ended       text check (ended in ('completed', 'failed', 'interrupted', 'stopped', 'crashed')),
    primary key (workflow_id, epoch)
);

-- One step, as of its latest attempt. Written by the step's own thread, twice: before its effect and after it.
create table steps (
    workflow_id text    not null,
    step_key    text    not null,               -- create_record_1, or equip_2/order_laptop_1 within a branch
    status      text    not null check (status in ('running', 'completed', 'failed')),
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

-- A try that a later run left behind: the columns of `steps`, and the run that moved it here.
create table attempts (
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
