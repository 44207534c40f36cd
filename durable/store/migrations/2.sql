-- From schema version 1: children and cancelling; runs may end `suspended` or `cancelled`. What is new as a whole (waits,
-- messages, indexes) is made from schema.sql afterwards.
alter table workflows add column parent_id text;
alter table workflows add column cancel_requested_at text;
alter table runs rename to runs_of_version_1;
create table runs (
    workflow_id text    not null,
    epoch       integer not null,
    pid         integer not null,
    host        text    not null,
    started_at  text    not null,
    ended_at    text,
    ended       text check (ended in (
                    'completed', 'failed', 'cancelled', 'interrupted', 'stopped', 'suspended', 'crashed')),
    primary key (workflow_id, epoch)
);
insert into runs select * from runs_of_version_1;
drop table runs_of_version_1
