"""The labels of a timeline: in a bar, beside it, or nowhere; shortened so that they fit. It draws nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from durable.dashboard.lanes import Bar

SHORTEST = 6  # letters: fewer say nothing


@dataclass(frozen=True, slots=True)
class Label:
    """Words at a place on the time axis: in the middle of a bar, or else beginning there."""

    text: str
    at: float
    is_inside: bool


def place_labels(bars: Sequence[Bar], walls: Sequence[float], letter: float) -> list[Label | None]:
    """Return one label per bar, of one lane in drawing order; `letter` is the width of a letter on the time axis.

    No label crosses a wall, or another bar.
    """
    return [
        _place(bar, _inside(bar, bars[place + 1 :]), _beside(bar, bars, walls), letter)
        for place, bar in enumerate(bars)
    ]


def _inside(bar: Bar, over: Iterable[Bar]) -> tuple[float, float]:
    """Return the longest part of a bar that no bar drawn over it covers."""
    free, start = [], bar.start
    for other in sorted(over, key=lambda other: other.start):
        if other.end > start and other.start < bar.end:
            free.append((start, other.start))
            start = other.end
    return max([*free, (start, bar.end)], key=lambda span: span[1] - span[0])


def _beside(bar: Bar, bars: Iterable[Bar], walls: Iterable[float]) -> tuple[float, float]:
    """Return the room from the end of a bar to the next bar or wall."""
    stops = [max(other.start, bar.end) for other in bars if other is not bar and other.end > bar.end]
    return bar.end, min([*stops, *(wall for wall in walls if wall >= bar.end)], default=bar.end)


def _place(bar: Bar, inside: tuple[float, float], beside: tuple[float, float], letter: float) -> Label | None:
    """Return the label that fits: the whole name, in the bar or else beside it, or else a shortened one."""
    name = bar.step_key.removeprefix(f"{bar.lane}/")  # the lane of a branch has its name
    whole = [f"{bar.count} steps", str(bar.count)] if bar.count > 1 else [_number(name, bar.attempt)]
    wrapped = [] if bar.count > 1 else [_wrap(name, bar.attempt)]
    spaces = [((end - start) / letter - 1, (start + end) / 2, True) for start, end in [inside]]
    spaces += [((end - start) / letter - 1, start + letter / 2, False) for start, end in [beside]]
    for room, at, is_inside in spaces:
        for text in [*whole, *(wrapped if is_inside else [])]:
            if _width(text) <= room:
                return Label(text, at, is_inside)
    for room, at, is_inside in spaces:
        if room >= SHORTEST and bar.count == 1:
            return Label(_number(shorten(name, int(room)), bar.attempt), at, is_inside)
    return None


def _number(name: str, attempt: int) -> str:
    return f"{name}\nattempt {attempt}" if attempt > 1 else name


def _wrap(name: str, attempt: int) -> str:
    """Break a name into two lines, at the underscore nearest to its middle. A second attempt has two lines already."""
    places = [place for place, letter in enumerate(name) if letter == "_"]
    if attempt > 1 or not places:
        return _number(name, attempt)
    place = min(places, key=lambda place: abs(place + 1 - len(name) / 2)) + 1
    return f"{name[:place]}\n{name[place:]}"


def _width(text: str) -> int:
    return max(map(len, text.splitlines()))


def shorten(name: str, letters: int) -> str:
    """Shorten a name to so many letters, and keep the number at its end: `reconcile_the_le…_5`."""
    if len(name) <= letters:
        return name
    number = name[name.rfind("_") :] if "_" in name else ""
    kept = letters - 1 - len(number)
    return f"{name[:kept]}…{number}" if kept > 1 else f"{name[: letters - 1]}…"
