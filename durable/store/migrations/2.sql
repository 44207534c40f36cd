-- From schema version 1: children and cancelling. New tables and indexes (waits, messages) are made from schema.sql.
alter table workflows add column parent_id text;
alter table workflows add column cancel_requested_at text
