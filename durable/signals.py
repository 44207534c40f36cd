"""Ctrl+C reaches the user's code, and never the engine's own bookkeeping.

Python raises KeyboardInterrupt between any two instructions of the main thread, also between a COMMIT and the line that
notes it. Within `held_back` the signal is only remembered, and raised as the outermost block ends; `let_through` opens
a window in such a block, for the user's code and for waiting. Other threads get no signals; there both do nothing.

CPython looks for signals when a function is entered, when a call returns and when a loop jumps back. So the lines that
change the state here are plain assignments at the start of a `finally` or `except`, where it does not look.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

_MAIN_THREAD = threading.main_thread().ident


class _Switch:
    """The state of the main thread."""

    blocks = 0  # held-back blocks that are open, windows or not
    depth = 0  # of them, those since the innermost window: a signal is held back while this is above 0
    arrived = False
    frame: FrameType | None = None
    previous: Any = None


class held_back:  # noqa: N801 - reads as a phrase: with held_back():
    """A block that SIGINT cannot tear. Blocks may be nested."""

    __slots__ = ("_active", "_blocks", "_depth", "_installed")

    def __enter__(self) -> held_back:
        self._active = threading.get_ident() == _MAIN_THREAD
        self._installed = False
        if self._active:
            self._blocks, self._depth = _Switch.blocks, _Switch.depth
            try:
                _Switch.blocks, _Switch.depth = self._blocks + 1, self._depth + 1
                if not self._blocks:
                    self._installed = _install()
            except BaseException:
                _Switch.blocks, _Switch.depth = self._blocks, self._depth
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._active:
            return
        arrived = False
        try:
            if self._installed and signal.getsignal(signal.SIGINT) is _handle:
                signal.signal(signal.SIGINT, _Switch.previous)
        finally:
            if not self._depth:
                arrived, _Switch.arrived = _Switch.arrived, False
            _Switch.blocks, _Switch.depth = self._blocks, self._depth
        if arrived:
            _Switch.previous(signal.SIGINT, _Switch.frame)


def is_waiting() -> bool:
    """Return whether a signal waits for the end of the block that the caller is in."""
    return _Switch.arrived and threading.get_ident() == _MAIN_THREAD


def let_through(fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call `fn` in a window of a held-back block: SIGINT is raised there at once, also one that had been held back."""
    if threading.get_ident() != _MAIN_THREAD:
        return fn(*args, **kwargs)
    depth = _Switch.depth
    try:
        _Switch.depth = 0
        if _Switch.arrived:
            _Switch.arrived = False
            _Switch.previous(signal.SIGINT, _Switch.frame)
        return fn(*args, **kwargs)
    finally:
        _Switch.depth = depth


def _install() -> bool:
    """Put our handler before the one that is there, unless SIGINT is ignored or left to the operating system."""
    current = signal.getsignal(signal.SIGINT)
    if current is _handle or not callable(current):
        return False
    _Switch.previous = current
    signal.signal(signal.SIGINT, _handle)
    return True


def _handle(number: int, frame: FrameType | None) -> None:
    if _Switch.depth:
        _Switch.arrived, _Switch.frame = True, frame
    else:
        _Switch.previous(number, frame)
