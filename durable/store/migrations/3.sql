-- From schema version 2: `runs.reason`; and `workflows.status` and `runs.ended` may have further values, so both tables
-- are made anew without their checks. Rows keep their rowids. Indexes are made from schema.sql afterwards. The order
-- (copy, drop, rename) keeps what the user's own tables and views say of these tables.
create table new_workflows (
    id          text    not null primary key,
    function    text    not null,
    arguments   text    not null,
    status      text    not null,
    output      text,
    error       text,
    epoch       integer not null,
    checksum    integer not null,
    created_at  text    not null,
    updated_at  text    not null,
    parent_id   text,
    cancel_requested_at text
);
insert into new_workflows (
    rowid, id, function, arguments, status, output, error, epoch, checksum, created_at, updated_at, parent_id,
    cancel_requested_at
)
select rowid, * from workflows order by rowid;
create table new_runs (
    workflow_id text    not null,
    epoch       integer not null,
    pid         integer not null,
    host        text    not null,
    started_at  text    not null,
    ended_at    text,
    ended       text,
    reason      text,
    primary key (workflow_id, epoch)
);
insert into new_runs (rowid, workflow_id, epoch, pid, host, started_at, ended_at, ended, reason)
select rowid, *, null from runs order by rowid;
drop table workflows;
drop table runs;
pragma legacy_alter_table = on;
alter table new_workflows rename to workflows;
alter table new_runs rename to runs;
pragma legacy_alter_table = off
