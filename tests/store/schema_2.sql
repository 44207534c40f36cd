-- A database of schema version 2, as the release before version 3 wrote it. Its workflows have completed, failed (one before
-- and one after compensations), been cancelled, wait (one of them with its answer there), have crashed twice; one was deleted.
BEGIN TRANSACTION;
CREATE TABLE attempts (
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
INSERT INTO "attempts" VALUES('crashed','provision_laptop_2','running',NULL,'provision_laptop','step',2,1,1,'[{"id":"crashed","name":"Jane Doe","laptop":null,"email":null},0.0]',NULL,NULL,'2026-11-30T12:00:00.000000+00:00',NULL,'worker 1',2);
CREATE TABLE deleted (
    workflow_id text    not null primary key,
    epoch       integer not null
);
INSERT INTO "deleted" VALUES('gone',1);
CREATE TABLE messages (
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
INSERT INTO "messages" VALUES(1,'answered','approval','{"by":"Ann","granted":true}',NULL,3797468020,'2026-11-30T12:00:00.000000+00:00',NULL);
CREATE TABLE runs (
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
INSERT INTO "runs" VALUES('crashed',1,4711,'host','2026-11-30T12:00:00.000000+00:00',NULL,'crashed');
INSERT INTO "runs" VALUES('crashed',2,4711,'host','2026-11-30T12:00:00.000000+00:00',NULL,NULL);
INSERT INTO "runs" VALUES('completed',1,4711,'host','2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','completed');
INSERT INTO "runs" VALUES('failed',1,4711,'host','2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','failed');
INSERT INTO "runs" VALUES('refused',1,4711,'host','2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','failed');
INSERT INTO "runs" VALUES('waiting',1,4711,'host','2026-11-30T05:47:38.110622+00:00','2026-11-30T05:47:38.164760+00:00','suspended');
INSERT INTO "runs" VALUES('answered',1,4711,'host','2026-11-30T05:47:38.387681+00:00','2026-11-30T05:47:38.422432+00:00','suspended');
INSERT INTO "runs" VALUES('cancelled',1,4711,'host','2026-11-30T05:47:38.663158+00:00','2026-11-30T05:47:38.706964+00:00','suspended');
CREATE TABLE steps (
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
INSERT INTO "steps" VALUES('crashed','create_record_1','completed','{"id":"crashed","name":"Jane Doe","laptop":null,"email":null}','create_record','step',1,1,1,'["crashed","Jane Doe",0.0]',NULL,2427582123,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','main');
INSERT INTO "steps" VALUES('crashed','provision_laptop_2','running',NULL,'provision_laptop','step',2,2,2,'[{"id":"crashed","name":"Jane Doe","laptop":null,"email":null},0.0]',NULL,NULL,'2026-11-30T12:00:00.000000+00:00',NULL,'worker 1');
INSERT INTO "steps" VALUES('crashed','setup_access_3','completed','"crashed@company.com"','setup_access','step',3,1,2,'[{"id":"crashed","name":"Jane Doe","laptop":null,"email":null},0.0]',NULL,886173393,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','worker 2');
INSERT INTO "steps" VALUES('completed','create_record_1','completed','{"id":"completed","name":"Jane Doe","laptop":null,"email":null}','create_record','step',1,1,1,'["completed","Jane Doe",0.0]',NULL,1600451865,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','main');
INSERT INTO "steps" VALUES('completed','provision_laptop_2','completed','"MacBook Pro"','provision_laptop','step',2,1,1,'[{"id":"completed","name":"Jane Doe","laptop":null,"email":null},0.0]',NULL,3569158693,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','worker 1');
INSERT INTO "steps" VALUES('completed','setup_access_3','completed','"completed@company.com"','setup_access','step',3,1,1,'[{"id":"completed","name":"Jane Doe","laptop":null,"email":null},0.0]',NULL,1907520247,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','worker 2');
INSERT INTO "steps" VALUES('completed','send_welcome_email_4','completed','null','send_welcome_email','step',4,1,1,'[{"id":"completed","name":"Jane Doe","laptop":"MacBook Pro","email":"completed@company.com"},0.0]',NULL,208294768,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','main');
INSERT INTO "steps" VALUES('failed','create_record_1','completed','"Jane Doe"','create_record','step',1,1,1,'["Jane Doe",0.0]',NULL,3645611306,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','main');
INSERT INTO "steps" VALUES('failed','remove_record_2','completed','null','remove_record','on_failure',2,1,1,'["Jane Doe",0.0]',NULL,975736198,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','main');
INSERT INTO "steps" VALUES('failed','order_laptop_3','completed','"MacBook Pro"','order_laptop','step',3,1,1,'["Jane Doe",0.0]',NULL,799841670,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','main');
INSERT INTO "steps" VALUES('failed','return_laptop_4','completed','null','return_laptop','on_failure',4,1,1,'["MacBook Pro",0.0]',NULL,831952470,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','main');
INSERT INTO "steps" VALUES('failed','print_badge_5','failed',NULL,'print_badge','step',5,1,1,'["Jane Doe",false,0.0]','{"type":"durable.examples.saga:BadgeError","message":"no badge for Jane Doe: the office is closed","arguments":["no badge for Jane Doe: the office is closed"],"notes":[],"traceback":"Traceback (most recent call last):\n  File \"durable/replay/attempt.py\", line 100, in once\n    value = let_through(self._fn, *self.call.args, **self.call.kwargs)\n            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"durable/signals.py\", line 85, in let_through\n    return fn(*args, **kwargs)\n           ^^^^^^^^^^^^^^^^^^^\n  File \"durable/examples/saga.py\", line 43, in print_badge\n    raise BadgeError(f\"no badge for {name}: the office is closed\")\ndurable.examples.saga.BadgeError: no badge for Jane Doe: the office is closed\n"}',3135323299,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','main');
INSERT INTO "steps" VALUES('failed','return_laptop_4/return_laptop_1','completed','null','return_laptop','compensation',1,1,1,'["MacBook Pro",0.0]',NULL,3224182095,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','return_laptop_4');
INSERT INTO "steps" VALUES('failed','remove_record_2/remove_record_1','completed','null','remove_record','compensation',1,1,1,'["Jane Doe",0.0]',NULL,1717759171,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','remove_record_2');
INSERT INTO "steps" VALUES('refused','create_record_1','failed',NULL,'create_record','step',1,1,1,'["refused","Jane Doe",0.0]','{"type":"builtins:IsADirectoryError","message":"[Errno 21] Is a directory: ''workflow.effects.log''","arguments":[21,"Is a directory","workflow.effects.log"],"notes":[],"traceback":"Traceback (most recent call last):\n  File \"durable/replay/attempt.py\", line 100, in once\n    value = let_through(self._fn, *self.call.args, **self.call.kwargs)\n            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"durable/signals.py\", line 85, in let_through\n    return fn(*args, **kwargs)\n           ^^^^^^^^^^^^^^^^^^^\n  File \"durable/examples/onboarding.py\", line 27, in create_record\n    have_effect(f\"created a record for {name}\", delay_seconds)\n  File \"durable/examples/effects.py\", line 26, in have_effect\n    descriptor = os.open(effects_log(step.database), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)\n                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\nIsADirectoryError: [Errno 21] Is a directory: ''workflow.effects.log''\n"}',1423467440,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00','main');
INSERT INTO "steps" VALUES('waiting','request_approval_1','completed','null','request_approval','step',1,1,1,'["the manager","MacBook Pro",3000,0.0]',NULL,376647953,'2026-11-30T05:47:38.120605+00:00','2026-11-30T05:47:38.124952+00:00','main');
INSERT INTO "steps" VALUES('waiting','approval_2','running',NULL,'approval','event',2,1,1,'[]',NULL,NULL,'2026-11-30T05:47:38.159304+00:00',NULL,'main');
INSERT INTO "steps" VALUES('answered','request_approval_1','completed','null','request_approval','step',1,1,1,'["the manager","MacBook Pro",3000,0.0]',NULL,376647953,'2026-11-30T05:47:38.412210+00:00','2026-11-30T05:47:38.413349+00:00','main');
INSERT INTO "steps" VALUES('answered','approval_2','running',NULL,'approval','event',2,1,1,'[]',NULL,NULL,'2026-11-30T05:47:38.417005+00:00',NULL,'main');
INSERT INTO "steps" VALUES('cancelled','request_approval_1','completed','null','request_approval','step',1,1,1,'["the manager","MacBook Pro",3000,0.0]',NULL,376647953,'2026-11-30T05:47:38.681871+00:00','2026-11-30T05:47:38.692043+00:00','main');
INSERT INTO "steps" VALUES('cancelled','approval_2','failed',NULL,'approval','event',2,1,1,'[]','{"type":"durable.errors:Abandoned","message":"the workflow ended before it","arguments":null,"notes":[],"traceback":""}',2722432911,'2026-11-30T05:47:38.698156+00:00','2026-11-30T05:47:38.719349+00:00','main');
CREATE TABLE waits (
    workflow_id text    not null,
    step_key    text    not null,
    wake_at     text,
    event       text,
    child_id    text,
    primary key (workflow_id, step_key)
);
INSERT INTO "waits" VALUES('waiting','approval_2','2058-08-08T07:34:18.159338+00:00','approval',NULL);
INSERT INTO "waits" VALUES('answered','approval_2','2058-08-08T07:34:18.417036+00:00','approval',NULL);
CREATE TABLE workflows (
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
INSERT INTO "workflows" VALUES('crashed','durable.examples.onboarding:onboarding','{"delay_seconds":0.0,"name":"Jane Doe"}','running',NULL,NULL,2,3840478462,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00',NULL,NULL);
INSERT INTO "workflows" VALUES('completed','durable.examples.onboarding:onboarding','{"delay_seconds":0.0,"name":"Jane Doe"}','completed','{"id":"completed","name":"Jane Doe","laptop":"MacBook Pro","email":"completed@company.com"}',NULL,1,1698417724,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00',NULL,NULL);
INSERT INTO "workflows" VALUES('failed','durable.examples.saga:saga','{"delay_seconds":0.0,"name":"Jane Doe","office_is_open":false}','failed',NULL,'{"type":"durable.examples.saga:BadgeError","message":"no badge for Jane Doe: the office is closed","arguments":["no badge for Jane Doe: the office is closed"],"notes":[],"traceback":"Traceback (most recent call last):\n  File \"durable/replay/workflow.py\", line 72, in _outcome\n    value = self._call()\n            ^^^^^^^^^^^^\n  File \"durable/replay/workflow.py\", line 91, in _call\n    value = context.call(self.function, args, kwargs)\n            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"durable/replay/frame.py\", line 174, in call\n    value = let_through(fn, self, *args, **kwargs)\n            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"durable/signals.py\", line 85, in let_through\n    return fn(*args, **kwargs)\n           ^^^^^^^^^^^^^^^^^^^\n  File \"durable/examples/saga.py\", line 53, in saga\n    return ctx.step(print_badge, name, office_is_open, delay_seconds)\n           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"durable/context.py\", line 63, in step\n    return self._await(found) if found.call.is_async else found.result()\n                                                          ^^^^^^^^^^^^^^\n  File \"durable/replay/attempt.py\", line 84, in result\n    value = self.once()\n            ^^^^^^^^^^^\n  File \"durable/replay/attempt.py\", line 107, in once\n    self._go_on(ending)  # out here, so that its error does not say that it came while another was handled\n    ^^^^^^^^^^^^^^^^^^^\n  File \"durable/replay/attempt.py\", line 112, in _go_on\n    raise ending\n  File \"durable/replay/attempt.py\", line 100, in once\n    value = let_through(self._fn, *self.call.args, **self.call.kwargs)\n            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"durable/signals.py\", line 85, in let_through\n    return fn(*args, **kwargs)\n           ^^^^^^^^^^^^^^^^^^^\n  File \"durable/examples/saga.py\", line 43, in print_badge\n    raise BadgeError(f\"no badge for {name}: the office is closed\")\ndurable.examples.saga.BadgeError: no badge for Jane Doe: the office is closed\n","steps":["print_badge_5"]}',1,913453514,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00',NULL,NULL);
INSERT INTO "workflows" VALUES('refused','durable.examples.onboarding:onboarding','{"delay_seconds":0.0,"name":"Jane Doe"}','failed',NULL,'{"type":"builtins:IsADirectoryError","message":"[Errno 21] Is a directory: ''workflow.effects.log''","arguments":[21,"Is a directory","workflow.effects.log"],"notes":[],"traceback":"Traceback (most recent call last):\n  File \"durable/replay/workflow.py\", line 72, in _outcome\n    value = self._call()\n            ^^^^^^^^^^^^\n  File \"durable/replay/workflow.py\", line 91, in _call\n    value = context.call(self.function, args, kwargs)\n            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"durable/replay/frame.py\", line 174, in call\n    value = let_through(fn, self, *args, **kwargs)\n            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"durable/signals.py\", line 85, in let_through\n    return fn(*args, **kwargs)\n           ^^^^^^^^^^^^^^^^^^^\n  File \"durable/examples/onboarding.py\", line 50, in onboarding\n    employee = ctx.step(create_record, ctx.workflow_id, name, delay_seconds)\n               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"durable/context.py\", line 63, in step\n    return self._await(found) if found.call.is_async else found.result()\n                                                          ^^^^^^^^^^^^^^\n  File \"durable/replay/attempt.py\", line 84, in result\n    value = self.once()\n            ^^^^^^^^^^^\n  File \"durable/replay/attempt.py\", line 107, in once\n    self._go_on(ending)  # out here, so that its error does not say that it came while another was handled\n    ^^^^^^^^^^^^^^^^^^^\n  File \"durable/replay/attempt.py\", line 112, in _go_on\n    raise ending\n  File \"durable/replay/attempt.py\", line 100, in once\n    value = let_through(self._fn, *self.call.args, **self.call.kwargs)\n            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"durable/signals.py\", line 85, in let_through\n    return fn(*args, **kwargs)\n           ^^^^^^^^^^^^^^^^^^^\n  File \"durable/examples/onboarding.py\", line 27, in create_record\n    have_effect(f\"created a record for {name}\", delay_seconds)\n  File \"durable/examples/effects.py\", line 26, in have_effect\n    descriptor = os.open(effects_log(step.database), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)\n                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\nIsADirectoryError: [Errno 21] Is a directory: ''workflow.effects.log''\n","steps":["create_record_1"]}',1,656235684,'2026-11-30T12:00:00.000000+00:00','2026-11-30T12:00:00.000000+00:00',NULL,NULL);
INSERT INTO "workflows" VALUES('waiting','durable.examples.approval:approval','{"delay_seconds":0.0,"laptop":"MacBook Pro","limit":2000,"patience_seconds":1000000000.0,"price":3000}','running',NULL,NULL,1,3856003545,'2026-11-30T05:47:38.110622+00:00','2026-11-30T05:47:38.110622+00:00',NULL,NULL);
INSERT INTO "workflows" VALUES('answered','durable.examples.approval:approval','{"delay_seconds":0.0,"laptop":"MacBook Pro","limit":2000,"patience_seconds":1000000000.0,"price":3000}','running',NULL,NULL,1,3856003545,'2026-11-30T05:47:38.387681+00:00','2026-11-30T05:47:38.387681+00:00',NULL,NULL);
INSERT INTO "workflows" VALUES('cancelled','durable.examples.approval:approval','{"delay_seconds":0.0,"laptop":"MacBook Pro","limit":2000,"patience_seconds":1000000000.0,"price":3000}','cancelled',NULL,'{"type":"durable.errors:WorkflowCancelledError","message":"workflow ''cancelled'' was cancelled","arguments":["workflow ''cancelled'' was cancelled"],"notes":[],"traceback":"durable.errors.WorkflowCancelledError: workflow ''cancelled'' was cancelled\n"}',1,275530714,'2026-11-30T05:47:38.663158+00:00','2026-11-30T05:47:38.719349+00:00',NULL,'2026-11-30T05:47:38.719349+00:00');
CREATE INDEX cancel_requests on workflows (id) where cancel_requested_at is not null;
CREATE INDEX children on workflows (parent_id) where parent_id is not null;
CREATE INDEX published on steps (workflow_id, name) where kind = 'publish';
CREATE INDEX timers on waits (wake_at) where wake_at is not null;
CREATE INDEX awaited_events on waits (workflow_id, event) where event is not null;
CREATE INDEX awaited_children on waits (child_id) where child_id is not null;
CREATE INDEX unreceived on messages (workflow_id, event, id) where received_by is null;
COMMIT;
pragma application_id = 1685418593;
pragma user_version = 2;
