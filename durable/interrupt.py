"""Ctrl+C reaches the user's code, and never the engine's own bookkeeping.

Python raises KeyboardInterrupt between any two instructions of the main thread, also between a COMMIT and the line that
notes it. Within `held_back` the signal is only remembered, and raised as the outermost block ends; `let_through` opens
a window in such a block, for the user's code and for waiting. Other threads get no signals; there both do nothing.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_MAIN_THREAD = threading.main_thread().ident


class _Switch:
    """The state of the main thread."""

    blocks = 0  # held-back blocks that are open, windows or not
    depth = 0  # of them, those since the innermost window: a signal is held back while this is above 0
    arrived = False
    frame: FrameType | None = None
    previous: Any = None


def _handle(number: int, frame: FrameType | None) -> None:
    if _Switch.depth:
        _Switch.arrived, _Switch.frame = True, frame
    else:
        _Switch.previous(number, frame)


def _install() -> bool:
    """Put our handler before the one that is there, unless SIGINT is ignored or left to the operating system."""
    current = signal.getsignal(signal.SIGINT)
    if current is _handle or not callable(current):
        return False
    _Switch.previous = current
    signal.signal(signal.SIGINT, _handle)
    return True


def _deliver() -> None:
    if _Switch.arrived and not _Switch.depth:
        _Switch.arrived = False
        _Switch.previous(signal.SIGINT, _Switch.frame)


class held_back:  # noqa: N801 - reads as a phrase: with held_back():
    """A block that SIGINT cannot tear. Blocks may be nested."""

    __slots__ = ("_active", "_installed")

    def __enter__(self) -> held_back:
        self._active = threading.get_ident() == _MAIN_THREAD
        self._installed = False
        if self._active:
            if not _Switch.blocks:
                self._installed = _install()
            _Switch.depth += 1  # from here on it is held back; a signal before this line is raised as ever
            _Switch.blocks += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._active:
            _Switch.blocks -= 1
            _Switch.depth -= 1
            if self._installed and signal.getsignal(signal.SIGINT) is _handle:
                signal.signal(signal.SIGINT, _Switch.previous)
            _deliver()

    @property
    def arrived(self) -> bool:
        """Whether a signal waits for the end of this block."""
        return self._active and _Switch.arrived


class let_through:  # noqa: N801 - with let_through():
    """A window in a held-back block, in which SIGINT is raised at once. Also one that had been remembered before."""

    __slots__ = ("_active", "_depth")

    def __enter__(self) -> None:
        self._active = threading.get_ident() == _MAIN_THREAD
        if self._active:
            self._depth, _Switch.depth = _Switch.depth, 0
            try:
                _deliver()
            except BaseException:
                _Switch.depth = self._depth
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            _Switch.depth = self._depth
