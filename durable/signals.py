"""Signals: handlers run within the user's code, and never within the engine's own bookkeeping.

Python calls the handler of a signal between any two instructions of the main thread, also between a COMMIT and the
line that notes it; and the handler may raise: KeyboardInterrupt, SystemExit, the TimeoutError of a time limit. Within
`held_back` the signals are only remembered, and handled as the outermost block ends; `let_through` opens a window in
such a block, for the user's code and for waiting. Other threads get no signals; there both do nothing.

CPython looks for signals when a function is entered, when a call returns and when a loop jumps back. So the lines that
change the state here are plain assignments at the start of a `finally` or `except`, where it does not look.
"""

from __future__ import annotations

import signal
import threading

# those of `signal` make enums, and take 20 times as long
from _signal import getsignal  # type: ignore[import-not-found]
from _signal import signal as set_handler
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

_MAIN_THREAD = threading.main_thread().ident
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2")
_NUMBERS = tuple(int(getattr(signal, name)) for name in _NAMES if hasattr(signal, name))  # Windows has two of them
_ALARM = int(getattr(signal, "SIGALRM", signal.SIGINT))
_MARK = "_durable_signal"  # the attribute of an error that a handler has raised: the number of the signal


class _Switch:
    """The state of the main thread."""

    blocks = 0  # held-back blocks that are open, windows or not
    depth = 0  # of them, those since the innermost window: signals are held back while this is above 0
    arrived: dict[int, tuple[_Holder, FrameType | None]] = {}  # noqa: RUF012 - replaced as a whole
    installed: list[int] = []  # noqa: RUF012 - the signals that have a holder


class _Holder:
    """A handler before that of the user. It stays usable: code in a window may note it as the one to put back."""

    __slots__ = ("handler",)

    def __init__(self, handler: Callable[[int, FrameType | None], object]) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if _Switch.depth:
            _Switch.arrived[number] = (self, frame)
        else:
            self.handle(number, frame)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Have the user's handler handle the signal."""
        try:
            self.handler(number, frame)
        except BaseException as error:
            mark(error, number)
            raise


class held_back:  # noqa: N801 - reads as a phrase: with held_back():
    """A block that no signal with a Python handler can tear. Blocks may be nested."""

    __slots__ = ("_active", "_blocks", "_depth")

    def __enter__(self) -> held_back:
        self._active = threading.get_ident() == _MAIN_THREAD
        if self._active:
            self._blocks, self._depth = _Switch.blocks, _Switch.depth
            try:
                _Switch.blocks, _Switch.depth = self._blocks + 1, self._depth + 1
                if not self._blocks:
                    _install(_NUMBERS)
                elif not self._depth and getsignal(_ALARM):  # a time limit around this one call
                    _install((_ALARM,))
            except BaseException:
                _Switch.blocks, _Switch.depth = self._blocks, self._depth
                self.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._active:
            return
        arrived = None
        try:
            if not self._blocks:
                _uninstall()
        finally:
            if not self._depth:
                arrived, _Switch.arrived = _Switch.arrived, {}
            _Switch.blocks, _Switch.depth = self._blocks, self._depth
            if arrived:
                _deliver(arrived)


def is_waiting() -> bool:
    """Return whether a signal waits for the end of the block that the caller is in."""
    return bool(_Switch.arrived) and threading.get_ident() == _MAIN_THREAD


def let_through(fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call `fn` in a window of a held-back block: signals are handled there at once, also those held back so far."""
    if threading.get_ident() != _MAIN_THREAD:
        return fn(*args, **kwargs)
    depth = _Switch.depth
    try:
        _Switch.depth = 0
        if _Switch.arrived:
            arrived, _Switch.arrived = _Switch.arrived, {}
            _deliver(arrived)
        return fn(*args, **kwargs)
    finally:
        _Switch.depth = depth


# ---- errors that a handler raises


def mark(error: E, number: int) -> E:
    """Note on an error that the handler of this signal raises it, and return it."""
    error.__dict__[_MARK] = number
    return error


def is_interrupt(error: BaseException) -> bool:
    """Return whether an error is no outcome: it is not an Exception, or the handler of a signal raised it."""
    return not isinstance(error, Exception) or _MARK in error.__dict__


def reason_of(error: BaseException) -> str:
    """Return the reason of a run that an interrupt ends: the signal, or KeyboardInterrupt and the like."""
    number = error.__dict__.get(_MARK, signal.SIGINT)
    return type(error).__name__ if number == signal.SIGINT else signal.Signals(number).name


# ---- within


def _install(numbers: tuple[int, ...]) -> None:
    """Put a holder before each Python handler. Signals that are ignored or left to the system stay so."""
    for number in numbers:
        current = getsignal(number)
        if callable(current) and type(current) is not _Holder:
            _Switch.installed.append(number)
            set_handler(number, _Holder(current))


def _uninstall() -> None:
    """Put the handlers back, all of them, even if one that is back raises at once."""
    try:
        while _Switch.installed:
            current = getsignal(_Switch.installed[-1])
            if type(current) is _Holder:
                set_handler(_Switch.installed[-1], current.handler)
            _Switch.installed.pop()
    finally:
        if _Switch.installed:
            _uninstall()


def _deliver(arrived: dict[int, tuple[_Holder, FrameType | None]]) -> None:
    """Handle all signals that were held back, even if the first handler raises."""
    number, (holder, frame) = arrived.popitem()
    try:
        holder.handle(number, frame)
    finally:
        if arrived:
            _deliver(arrived)
