"""Everything that the engine can raise. Each error says what happened, and what to do now.

The message is for people; programs read the attributes. No module of ours is imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class DurableError(Exception):
    """The base of all errors of this package."""


class InvalidNameError(DurableError, ValueError):
    """A workflow id or a step name cannot serve as one. Nothing has run."""


class WorkflowNotFoundError(DurableError, LookupError):
    """There is no workflow of this id, or its function cannot be imported. Nothing has run."""

    def __init__(self, message: str, *, workflow_id: str) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id


class StepNotFoundError(DurableError, LookupError):
    """The workflow has no step of this key on record. Nothing was changed."""

    def __init__(self, message: str, *, workflow_id: str, step_key: str) -> None:
        super().__init__(message)
        self.workflow_id, self.step_key = workflow_id, step_key


class WorkflowConflictError(DurableError):
    """The id belongs to another function or to other arguments. Nothing has run."""

    def __init__(self, message: str, *, workflow_id: str, recorded: str, called: str) -> None:
        super().__init__(message)
        self.workflow_id, self.recorded, self.called = workflow_id, recorded, called


class WorkflowBusyError(DurableError):
    """The workflow is being run already, by process `pid`. Nothing has run here."""

    def __init__(self, workflow_id: str, pid: int | None) -> None:
        where = f"process {pid}" if pid else "another process"
        super().__init__(f"workflow {workflow_id!r} is already running in {where}; wait for it, or use another id")
        self.workflow_id, self.pid = workflow_id, pid


class ExecutorBusyError(DurableError):
    """The executor id is that of another living process, which would lose its workflows to this one."""

    def __init__(self, executor_id: str) -> None:
        super().__init__(
            f"executor {executor_id!r} is another process, and that is alive; give each process an executor_id of its "
            f"own, or close that one first"
        )
        self.executor_id = executor_id


class FencedError(DurableError):
    """A newer run has taken the workflow over; what this one wanted to save was refused.

    The effect of a step in flight may have happened; the newer run decides about it.
    """

    def __init__(self, workflow_id: str, epoch: int) -> None:
        super().__init__(
            f"workflow {workflow_id!r}: run {epoch} was superseded by a newer run, so nothing that it does "
            f"is saved any more; let the newer run finish"
        )
        self.workflow_id, self.epoch = workflow_id, epoch


class ScopeError(DurableError):
    """A durable operation was called from a place where its position in program order would be random."""


class NonDeterminismError(DurableError):
    """The code asks for an operation that differs from the recorded one, or would on a replay. No effect has followed.

    `recorded` and `called` are the two sides, as text. A step that has changed an argument in place has had its effect.
    """

    def __init__(self, message: str, *, workflow_id: str, step_key: str, recorded: str, called: str) -> None:
        super().__init__(message)
        self.workflow_id, self.step_key = workflow_id, step_key
        self.recorded, self.called = recorded, called


class SerializationError(DurableError, TypeError):
    """A value has no exact JSON form under its annotation. Nothing of it was stored.

    `subject` says whose value it is, `type_name` what it was. The effect of a step that returned it has happened.
    """

    def __init__(self, message: str, subject: str, type_name: str) -> None:
        super().__init__(message)
        self.subject, self.type_name = subject, type_name

    def __reduce__(self) -> tuple[type[SerializationError], tuple[str, str, str]]:
        return type(self), (str(self), self.subject, self.type_name)  # so that it can be recorded, and raised again


class StepError(DurableError):
    """Stands for a recorded exception whose class cannot be found: it is local to a function, or not imported here.

    `type_name` is the class as `module:qualname`, `message` its text.
    """

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(type_name, message)
        self.type_name, self.message = type_name, message

    def __str__(self) -> str:
        return f"{self.type_name.rpartition(':')[2]}: {self.message}"


class StoreError(DurableError):
    """The database could not be read or written. `path` names it.

    When it comes out of a step, the step's effect may have happened; its checkpoint may be missing. Once the cause
    is removed, running the same workflow id again goes on from what was saved.
    """

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


class CorruptionError(StoreError):
    """A stored value does not match its checksum, or the file is damaged. Nothing further has run."""


class SchemaVersionError(StoreError):
    """The file was written by a newer version of this package, or by another program. Nothing was changed."""


class WorkflowCancelledError(DurableError):
    """The workflow was cancelled. Its compensations have run; running the id again does nothing but raise this."""


class WorkflowEndedError(DurableError):
    """The workflow has ended, so it can no longer receive a message or be cancelled. Nothing was changed."""

    def __init__(self, message: str, *, workflow_id: str, status: str) -> None:
        super().__init__(message)
        self.workflow_id, self.status = workflow_id, status


class WaitTimeoutError(DurableError, TimeoutError):
    """No message came in time. That is the recorded outcome of the wait, even if a message has come since."""


class StepTimeoutError(DurableError, TimeoutError):
    """A step took longer than its `timeout_seconds`. Its effect may have happened.

    It may still happen, since threads cannot be killed. With `isolate=True` its process was killed, so nothing more of
    it will happen.
    """


class StepDiedError(DurableError):
    """The process of an isolated step ended by itself: a crash, `os._exit`, the system short of memory.

    Its effect may have happened. `exit_code` is negative if a signal ended it: -11 for a segmentation fault.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message, exit_code)
        self.message, self.exit_code = message, exit_code

    def __str__(self) -> str:
        return self.message


class NoThreadError(DurableError, RuntimeError):
    """No thread can be started: the interpreter ends, or the system has no more. The run is interrupted."""


class NotSupportedError(DurableError):
    """The engine lacks a feature of another one; the message says why, and what to do instead. Nothing was done."""

    def __init__(self, message: str, *, operation: str) -> None:
        super().__init__(message)
        self.operation = operation


class TransactionError(DurableError):
    """A function in `ctx.transaction` did something that is not allowed there. Its changes are undone."""


class NotPublishedError(DurableError, LookupError):
    """The workflow has published nothing under this name yet."""


# ---- control flow that is no outcome; no `except Exception` catches it


class RunStopped(BaseException):
    """Ends the other threads of a run that was interrupted. Nothing is recorded of the steps in flight."""


class Unwinding(BaseException):
    """Ends the workflow's function, or a branch of it; the steps in flight end first and are saved."""


class Suspended(Unwinding):
    """The workflow only waits, and gives its thread back. It is replayed when its wait is over."""


class CancelRequested(Unwinding):
    """The workflow is to be cancelled."""


class Abandoned(Unwinding):
    """The wait has lost its race, and the workflow has ended."""
