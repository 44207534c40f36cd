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
    """The state of the main thread: how deep it is in held-back blocks, and whether a signal waits."""

    depth = 0
    frame: FrameType | None = None
    arrived = False
    previous: Any = None


def _handle(number: int, frame: FrameType | None) -> None:
    if _Switch.depth:
        _Switch.arrived, _Switch.frame = True, frame
    else:
        _Switch.previous(number, frame)


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
            current = signal.getsignal(signal.SIGINT)
            if current is not _handle and callable(current):
                _Switch.previous = current  # before the depth: a signal in between is raised as ever
                signal.signal(signal.SIGINT, _handle)
                self._installed = True
            _Switch.depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
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
