"""Formats of pandas' scalars: timestamps, durations, periods, intervals, and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from durable.values.formats.registry import Dumped, Format, FormatError
from durable.values.formats.standard import dump_zone, load_zone


class TimestampFormat(Format):
    """Stores a timestamp with its unit, its zone and its fold."""

    name = "timestamp/1"
    libraries = ("pandas",)

    def dump(self, value: Any) -> Dumped:
        utc = value.asm8
        head = {
            "at": value.isoformat(),
            "value": int(utc.view("i8")),
            "unit": value.unit,
            "zone": dump_zone(value.tz, with_pytz=True),
        }
        return head | ({"fold": value.fold} if value.fold else {}), ()

    def load(self, head: Any, buffers: Any) -> Any:
        value, zone = pd.Timestamp(np.datetime64(head["value"], head["unit"])), load_zone(head["zone"])
        if zone is not None:
            return value.tz_localize("UTC").tz_convert(zone)
        return value.replace(fold=1) if head.get("fold") else value


class TimedeltaFormat(Format):
    """Stores a duration with its unit."""

    name = "timedelta/1"
    libraries = ("pandas",)

    def dump(self, value: Any) -> Dumped:
        return {"duration": str(value), "value": int(value.asm8.view("i8")), "unit": value.unit}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        return pd.Timedelta(np.timedelta64(head["value"], head["unit"]))


class PeriodFormat(Format):
    """Stores a period by its number and its frequency."""

    name = "period/1"
    libraries = ("pandas",)

    def dump(self, value: Any) -> Dumped:
        return {"period": str(value), "ordinal": value.ordinal, "freq": dump_span(value.freq)}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        return pd.Period(ordinal=head["ordinal"], freq=head["freq"])


class IntervalFormat(Format):
    """Stores an interval by its ends."""

    name = "interval/1"
    libraries = ("pandas",)

    def dump(self, value: Any) -> Dumped:
        return {"left": value.left, "right": value.right, "closed": value.closed}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        return pd.Interval(head["left"], head["right"], head["closed"])


class MissingFormat(Format):
    """Stores `NaT` and `NA`."""

    name = "missing/1"

    def dump(self, value: Any) -> Dumped:
        return ("NaT" if value is pd.NaT else "NA"), ()

    def load(self, head: Any, buffers: Any) -> Any:
        return {"NaT": pd.NaT, "NA": pd.NA}[head]


def dump_freq(freq: Any) -> str | None:
    """Return the frequency of an index as text. Raises FormatError for one that its text does not tell in full."""
    if freq is None:
        return None
    text: str = freq.freqstr
    return _checked(text, freq, lambda: pd.tseries.frequencies.to_offset(text))


def dump_span(freq: Any) -> str:
    """Return the frequency of periods as text. Raises FormatError as `dump_freq`."""
    text = pd.PeriodDtype(freq).name.removeprefix("period[").removesuffix("]")
    return _checked(text, freq, lambda: pd.PeriodDtype(text).freq)


def _checked(text: str, freq: Any, read: Callable[[], Any]) -> str:
    try:
        back = read()
    except ValueError:
        back = None
    if back != freq:
        raise FormatError(f"whose frequency {freq!r} has no exact text; take it off with .index.freq = None")
    return text
