"""The gate, at which the steps of a run wait until they are let through, one at a time or all at once."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - its exit hook has to be there before ours
import threading
import weakref

from durable.replay.keys import program_order

GRACE_SECONDS = 0.5  # how long an earlier step may take to arrive; a branch without steps never does

_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


class Gate:
    """Steps call `arrive`, then `wait`, before they begin. They are let through in program order.

    A step has to wait for the earlier ones of its scope to arrive, so that the order of two parallel steps does not
    depend on the scheduling of their threads. `abandoned` is set when the program ends while steps wait: they will
    not be let through any more.
    """

    def __init__(self) -> None:
        self.abandoned = threading.Event()
        self._condition = threading.Condition()
        self._waiting: set[str] = set()
        self._arrived: dict[str, set[int]] = {}
        self._admitted: set[str] = set()
        self._permits = 0
        self._open = False
        _gates.add(self)

    @property
    def waiting(self) -> list[str]:
        """Return the step keys that wait here, in program order: the first is the next to go."""
        with self._condition:
            return sorted(self._waiting, key=program_order)

    @property
    def is_open(self) -> bool:
        """Return whether all steps can pass."""
        return self._open

    def let_one(self) -> None:
        """Let one step through: the first that waits, or else the first that arrives."""
        with self._condition:
            self._permits += 1
            self._admit()

    def open(self) -> None:
        """Let all through, from now on."""
        with self._condition:
            self._open = True
            self._condition.notify_all()

    def note(self, step_key: str) -> None:
        """Note that a step has passed without waiting: it was answered from its row."""
        with self._condition:
            self._note(step_key)
            self._admit()

    def arrive(self, step_key: str) -> None:
        """Note that a step is about to begin; `wait` comes next."""
        with self._condition:
            self._note(step_key)
            self._waiting.add(step_key)
            self._admit()

    def wait(self, step_key: str) -> None:
        """Return when this step can begin."""
        with self._condition:
            try:
                self._wait(step_key)
            finally:
                self._waiting.discard(step_key)

    def _wait(self, step_key: str) -> None:
        while not self._open and step_key not in self._admitted:
            woken = self._condition.wait(GRACE_SECONDS)
            if not woken and self._permits:
                self._admit(in_turn=False)

    def _admit(self, *, in_turn: bool = True) -> None:
        while self._permits and self._waiting - self._admitted:
            first = min(self._waiting - self._admitted, key=program_order)
            if in_turn and not self._is_first(first):
                return
            self._permits -= 1
            self._admitted.add(first)
            self._condition.notify_all()

    def _note(self, step_key: str) -> None:
        for path, number in _places(step_key):
            self._arrived.setdefault(path, set()).add(number)

    def _is_first(self, step_key: str) -> bool:
        """Return whether all earlier steps of its scopes have arrived."""
        return all(self._arrived[path].issuperset(range(1, number)) for path, number in _places(step_key))


def _abandon_all() -> None:
    for gate in list(_gates):
        gate.abandoned.set()
        gate.open()


# The interpreter joins its threads in order to end, and would wait forever for those at a gate. Python has no public
# hook that comes before that join; if this one is ever removed, such a program has to be ended by Ctrl+C.
if hasattr(threading, "_register_atexit"):
    threading._register_atexit(_abandon_all)  # pyright: ignore[reportAttributeAccessIssue]


def _places(step_key: str) -> list[tuple[str, int]]:
    """Return the scopes on the way to a step, with its numbers: `equip_2/order_1` is 2 in "" and 1 in "equip_2"."""
    parts = step_key.split("/")
    numbers = program_order(step_key)
    return [("/".join(parts[:depth]), number) for depth, number in enumerate(numbers)]
