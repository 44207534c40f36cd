"""Groups: many parallel steps of one name, as a map makes them. The panel draws such a group as one card with a bar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from durable.dashboard.rows import Now, Rows, state_of
from durable.lab.panel.guess import Guess
from durable.replay.keys import name_in
from durable.store.records import StepRecord

FEWEST = 9  # steps of one name side by side that are a group; fewer are drawn one by one
_WORDS = {
    "completed": "completed",
    "replayed": "replayed, not run",
    "running": "running",
    "waiting": "waiting",
    "zombie": "never saved",
    "failed": "failed",
}

_Order = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A step that the panel can draw: it has a row, waits at the gate, or is only guessed."""

    key: str
    order: _Order
    is_parallel: bool
    row: StepRecord | None = None
    guess: Guess | None = None

    @property
    def is_compensation(self) -> bool:
        """Return whether it undoes what a step did."""
        return self.row is not None and self.row.kind == "compensation"

    @property
    def has_ended(self) -> bool:
        """Return whether it has an outcome."""
        return self.row is not None and self.row.ended_at is not None


@dataclass(frozen=True, slots=True)
class Group:
    """Entries of one name and scope, which follow one another. Its key is that of the first."""

    entries: Sequence[Entry]
    is_open: bool
    is_parallel = False  # it has a column of its own
    is_compensation = False

    @property
    def key(self) -> str:
        """Return the key of its first entry."""
        return self.entries[0].key

    @property
    def has_ended(self) -> bool:
        """Return whether all that it knows have an outcome; if it is open, its entries answer for themselves."""
        return self.is_open or all(entry.has_ended for entry in self.entries)


def fold(entries: Sequence[Entry], opened: Collection[str]) -> list[Entry | Group]:
    """Return the entries with a group in place of many of one name; the entries of an open group come after it."""
    items: list[Entry | Group] = []
    for name, found in groupby(entries, key=_name_of_group):
        together = list(found)
        if name is None or len(together) < FEWEST:
            items += together
            continue
        is_open = together[0].key in opened
        items += [Group(together, is_open), *(together if is_open else [])]
    return items


def unfold(items: Sequence[Entry | Group]) -> Iterator[Entry]:
    """Return the entries, with those of closed groups."""
    for item in items:
        if isinstance(item, Entry):
            yield item
        elif not item.is_open:
            yield from item.entries


def draw_group(group: Group, rows: Rows, now: Now, guesses: Sequence[Guess]) -> dict[str, Any]:
    """Return the card of a group: how many of its steps are how far, and how many begin in a second."""
    name = name_in(group.key)
    maps = [guess for guess in guesses if guess.name == name and guess.operation == "map"]
    guess = maps[0] if len(maps) == 1 else None
    steps = [entry.row for entry in group.entries if entry.row is not None]
    states = Counter(state_of(step, rows, now) for step in steps)
    known, bounds = len(group.entries), guess.bounds if guess is not None else ""
    said = [int(each.total or 0) for each in rows.progress if each.is_map and each.step_key == group.key]
    count = max(known, *said, (guess.count if guess is not None and not guess.is_repeated else None) or 0)
    told = [f"{states[state]} {word}" for state, word in _WORDS.items() if states[state]]
    told += [f"{count - len(steps)} to come"] if count > len(steps) else []
    return {
        "key": group.key,
        "group": True,
        "title": f"{name}, {count} times",
        "state": _state_of_group(states, count),
        "word": ", ".join(told),
        "ended": sum(step.ended_at is not None for step in steps),
        "count": count,
        "rate": ", ".join(filter(None, [_tell_rate(steps, rows.epoch), bounds])),
        "twice": any(rows.lost_attempts(step.step_key) for step in steps),
        "next": any(entry.key in now.waiting[:1] for entry in group.entries),
        "open": group.is_open,
    }


def _name_of_group(entry: Entry) -> tuple[str, str] | None:
    """Return the scope and name of a parallel step, None if it is of no group."""
    if not entry.is_parallel or entry.guess is not None or entry.is_compensation:
        return None
    return entry.key.rpartition("/")[0], name_in(entry.key)


def _state_of_group(states: Mapping[str, int], count: int) -> str:
    for state in ("running", "zombie", "failed", "waiting"):
        if states[state]:
            return state
    if states["replayed"] == count:
        return "replayed"
    return "completed" if states["completed"] + states["replayed"] == count else "upcoming"


def _tell_rate(steps: Sequence[StepRecord], epoch: int) -> str:
    """Say how many began in a second, on average, in the latest run."""
    begun = sorted(step.started_at for step in steps if step.epoch == epoch)
    seconds = (begun[-1] - begun[0]).total_seconds() if begun else 0.0
    return f"{(len(begun) - 1) / seconds:.3g} begun per second" if seconds else ""
