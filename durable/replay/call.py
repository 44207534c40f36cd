"""One call of a function as a durable operation: its name, its arguments, how its result is stored."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any

import msgspec

from durable.errors import InvalidNameError, SerializationError
from durable.parallel.future import Future
from durable.replay.keys import check_name
from durable.values import codec
from durable.values.changes import describe_change
from durable.values.content import cannot_change, parts_of
from durable.values.fingerprint import (
    RESULT,
    describe,
    fingerprint,
    fingerprint_of_call,
    first_version,
    innermost,
    is_same_call,
    may_hold_others,
    partial_arguments,
)
from durable.values.places import find_shift

MAX_PLANS = 256


class Options(msgspec.Struct, frozen=True):
    """How a function runs as a step. This class is a plain call; `durable.limits` has others."""

    name: str | None = None

    @property
    def is_plain(self) -> bool:
        """Return whether it is one call of its function, in whichever thread."""
        return True

    @property
    def runs_apart(self) -> bool:
        """Return whether another process runs the function, so that this one only waits for it."""
        return False

    def wrap(self, call: Call, workers: Any) -> Callable[..., Any]:  # noqa: ARG002 - limits need the workers
        """Return the function to call."""
        return call.fn

    def next_delay(self, error: Exception, attempt: int, seed: str) -> float | None:  # noqa: ARG002 - retries need them
        """Return the seconds until the next attempt, or None if this failure is the outcome."""
        return None


PLAIN = Options()


def options_of(fn: Any) -> Options:
    """Return what `@step` has noted on a function, or on the one within a partial."""
    while isinstance(fn, functools.partial) and not hasattr(fn, "__durable_step__"):
        fn = fn.func
    options: Options = getattr(fn, "__durable_step__", PLAIN)
    return options


class Plan:
    """The part of a call that is the same for every call of a function, found once."""

    __slots__ = ("codec", "is_async", "name", "options")

    def __init__(self, fn: Callable[..., Any], name: str) -> None:
        check_name(name)
        self.name = name
        self.options = options_of(fn)
        self.codec = codec.codec_of_result(fn, f"step {name!r}")
        self.is_async = is_async(fn) and not self.options.runs_apart


_plans: weakref.WeakKeyDictionary[Any, Plan] = weakref.WeakKeyDictionary()


def plan_of(fn: Any) -> Plan:
    """Return the plan of a function. Raises InvalidNameError or SerializationError."""
    plain = getattr(fn, "__func__", fn)  # a bound method is a new object each time
    try:
        plan = _plans.get(plain)
        if plan is None or not codec.is_current(fn, plan.codec.evaluated):
            plan = _plans[plain] = Plan(fn, _name_of(fn))
        return plan
    except TypeError:  # it cannot be hashed or weakly referenced, so its plan is not kept
        return Plan(fn, _name_of(fn))


class Plans(dict[Any, Plan]):
    """The plans of the functions that a run has called: faster than `plan_of`, since it keeps the functions alive.

    So it leaves out closures and partials, which would keep their contents alive too.
    """

    def find(self, fn: Any) -> Plan | None:
        """Return the plan of a function; None for a name that stands before it, and for what has none."""
        try:
            return self[fn]
        except (KeyError, TypeError, ValueError):
            return None

    def __missing__(self, fn: Any) -> Plan:
        if not callable(fn):  # a name before the function
            raise KeyError(fn)
        plan = plan_of(fn)
        if isinstance(fn, FunctionType) and fn.__closure__ is None and len(self) < MAX_PLANS:
            self[fn] = plan
        return plan


class Operation:
    """An operation that the workflow asks for. Its name, kind and fingerprint identify it on record."""

    __slots__ = ("args", "codec", "fingerprint", "kind", "kwargs", "name")
    is_async = False  # whether its effect is a coroutine
    options = PLAIN

    def __init__(self, kind: str, name: str, result: codec.Codec, *args: Any) -> None:
        """`args` make the fingerprint. Raises InvalidNameError."""
        check_name(name)
        self.kind, self.name, self.codec = kind, name, result
        self.args, self.kwargs = args, dict[str, Any]()
        self.fingerprint = fingerprint(args, {})

    @property
    def recorded_as(self) -> str | None:
        """The fingerprint as its row has it, with the meaning of the places and numbers in the result."""
        places = self.codec.places
        return f"{self.fingerprint or ''}{RESULT}{places}" if places else self.fingerprint

    def matches(self, recorded: str | None, *, has_result: bool = True) -> bool:
        """Return whether a recorded fingerprint has these arguments, and the recorded result still means the same."""
        given, _, places = (recorded or "").partition(RESULT)
        return is_same_call(given or None, self.fingerprint, self.args, self.kwargs) and not (
            has_result and places and find_shift(places, self.codec.places)
        )

    def find_change(self) -> str | None:
        """Return how the effect has changed an argument in place, in words; None if it has not."""
        return None

    def find_refusal(self, workflow_id: str) -> SerializationError | None:
        """Return why it must not begin: its result could never be stored."""
        return self.codec.find_refusal(f"{self.kind} {self.name!r} of {workflow_id!r}: its result")

    def __str__(self) -> str:
        return f"{self.name}{describe(self.recorded_as)}"


class Call(Operation):
    """A step that the workflow asks for. Raises InvalidNameError or SerializationError before anything has run."""

    __slots__ = ("_before", "_is_plain", "_passed", "fn", "is_async", "options")

    def __init__(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], plan: Plan | None = None) -> None:
        """`plan` is that of the function, if the caller has it."""
        if plan is None and callable(fn):
            plan = plan_of(fn)
        elif plan is None:
            name, fn, args = split_name(fn, args)
            plan = Plan(fn, name)
        self.fn: Callable[..., Any] = fn
        self.args, self.kwargs = args, kwargs
        self.name, self.codec, self.is_async, self.options = plan.name, plan.codec, plan.is_async, plan.options
        self.kind = "step"
        self._passed = args, kwargs
        self._before: str | None = None  # their fingerprint, if one of them can be changed in place
        self._is_plain = False  # whether no argument can be changed, and so none is a future; this saves 2 % of a step
        if type(fn) is not FunctionType:
            self.fingerprint = fingerprint_of_call(fn, args, kwargs)
            self._passed = partial_arguments(fn, args, kwargs)
            self.note_arguments()
        elif cannot_change(args, kwargs):  # then both versions are the same
            self._is_plain = True
            self.fingerprint = first_version(args, kwargs)
        else:
            self.fingerprint = self._before = fingerprint(args, kwargs)

    def note_arguments(self) -> None:
        """Note the arguments as they are now: the workflow may have changed them since it made this call."""
        self._before = None if cannot_change(*self._passed) else fingerprint(*self._passed)

    def find_change(self) -> str | None:
        """See `Operation`."""
        before = self._before
        if before is None or before == first_version(*self._passed):  # the faster check
            return None
        own = 1 if self.kind == "transaction" else 0  # the function gets a connection first
        return describe_change(self.fn, self._passed, before, fingerprint(*self._passed), own)

    def find_refusal(self, workflow_id: str) -> SerializationError | None:
        """Return why it must not begin: see `Operation`; or one of its arguments is a future."""
        if self._is_plain and self.codec.refused == "":
            return None
        if self.codec.refused != "" and (refusal := super().find_refusal(workflow_id)) is not None:
            return refusal
        if not may_hold_others(self.fingerprint) or not _holds_future(self._passed):
            return None
        subject = f"{self.kind} {self.name!r} of {workflow_id!r}"
        return SerializationError(
            f"{subject} is given a future, not its value; pass its .result(), or await it first",
            subject=subject,
            type_name="Future",
        )


def _holds_future(value: Any) -> bool:
    """Return whether a value holds a future, at any depth."""
    left, seen = [value], dict[int, Any]()  # a list may hold itself
    while left:
        part = left.pop()
        if isinstance(part, Future):
            return True
        if id(part) not in seen:
            seen[id(part)] = part
            left += parts_of(part)
    return False


def split_name(fn: str | Callable[..., Any], args: tuple[Any, ...]) -> tuple[str, Callable[..., Any], tuple[Any, ...]]:
    """Return the name, the function and its arguments of a call `(fn, *args)` or `("name", fn, *args)`."""
    name, function, rest = (fn, args[0] if args else None, args[1:]) if isinstance(fn, str) else (None, fn, args)
    if not callable(function):
        raise TypeError(
            f"expected a function and then its arguments, got {function!r}; write ctx.step(fn, x), not ctx.step(fn(x))"
        )
    name = _name_of(function) if name is None else name
    check_name(name)
    return name, function, rest


def _name_of(fn: Any) -> str:
    fn = innermost(fn)
    name = options_of(fn).name or getattr(fn, "__name__", None)
    if not isinstance(name, str):
        raise InvalidNameError(
            f"a {type(fn).__name__} has no name to recognise it by; pass one, as in ctx.step('charge', fn)"
        )
    return name


def is_async(fn: Callable[..., Any]) -> bool:
    """Return whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
