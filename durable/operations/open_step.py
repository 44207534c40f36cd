"""An open step: its effect is a block of the caller's own code, see `Context.open_step`."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

from durable.errors import ScopeError
from durable.replay import Frame, Operation, Step, held_back
from durable.replay.drivers import begin_open
from durable.replay.step_info import current
from durable.signals import is_interrupt
from durable.values import codec
from durable.values.changes import describe_change
from durable.values.fingerprint import fingerprint
from durable.values.refusals import VALUE

T = TypeVar("T")


class Block(Operation):
    """A block of code as a durable operation."""

    __slots__ = ()

    def find_change(self) -> str | None:
        """See `Operation`."""
        after = fingerprint(self.args, {})
        return describe_change(None, (self.args, {}), self.fingerprint, after)


def open_step(frame: Frame, name: str, args: tuple[Any, ...], kind: Any) -> OpenStep[Any]:
    """Draw the key of a step that its caller performs."""
    frame.refuse_to_block("ctx.open_step", "await ctx.branch(fn), where the plain function fn(ctx) opens it")
    result = codec.codec_of(kind, f"step {name!r}", VALUE, is_own=True)
    return OpenStep(frame, frame.reach(Block("step", name, result, *args)))


class OpenStep(Generic[T]):
    """A step whose effect is the block of a `with` statement, see `Context.open_step`."""

    def __init__(self, frame: Frame, step: Step) -> None:
        self._frame, self._step = frame, step
        self._end: Callable[[Callable[[], Any]], None] | None = None  # set within the block, until there is an outcome

    @property
    def key(self) -> str:
        """The step's key in its workflow."""
        return self._step.key

    @property
    def is_recorded(self) -> bool:
        """Whether its outcome is on record, so that the block has nothing to do."""
        return self._step.outcome is not None

    @property
    def output(self) -> str | None:
        """The value on record as JSON text, with large values named only; None while there is none."""
        return None if self._step.outcome is None else self._step.outcome.output

    @property
    def value(self) -> T:
        """The value on record, decoded when it is first asked for.

        Raises the error on record; ScopeError while there is no outcome.
        """
        with held_back():
            if not self.is_recorded:
                self._refuse("has no value yet; ask for it after step.complete(value)")
            value: T = self._frame.run.give(self._step)
            return value

    def complete(self, value: T) -> None:
        """Record the value of the block: it is durable once this returns. It ends the step, also within the block.

        Raises ScopeError outside of the block and where there is an outcome already; SerializationError for a value
        without exact form; NonDeterminismError if the block has changed an argument of `open_step` in place.
        """
        with held_back():
            if self._end is None:
                self._refuse("was completed outside of its block, or twice; ask step.is_recorded before")
            self._finish(lambda: value)

    def __enter__(self) -> OpenStep[T]:
        with held_back():
            frame, step = self._frame, self._step
            if step.outcome is None:
                self._end = begin_open(frame.run, step)
                frame.in_step = step.key
                self._token = current.set((frame.run.info, step))
            elif step.outcome.error is not None:
                frame.run.give(step)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with held_back():
            if self._end is None:  # it has an outcome, and what comes after it is the workflow's
                return
            if error is None:
                self._leave()
                self._refuse("was left without an outcome; call step.complete(value) at the end of its block")
            if is_interrupt(error):
                self._leave()
                self._frame.on_raised(error)
                return
            self._finish(lambda: _raise(error))
            try:
                self._frame.run.give(self._step)
            except Exception as recorded:
                raise recorded from None

    def _finish(self, effect: Callable[[], Any]) -> None:
        """Save the outcome of the block."""
        assert self._end is not None
        end = self._end
        try:
            end(effect)
        except BaseException as error:
            self._frame.on_raised(error)
            raise
        finally:
            self._leave()

    def _leave(self) -> None:
        self._end, self._frame.in_step = None, ""
        current.reset(self._token)

    def _refuse(self, problem: str) -> NoReturn:
        workflow_id = self._frame.workflow_id
        raise self._frame.run.stop(ScopeError(f"workflow {workflow_id!r}: step {self.key!r} {problem}"))


def _raise(error: BaseException) -> NoReturn:
    raise error
