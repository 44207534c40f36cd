"""Instants as they are stored: text, whose order is that of time."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

_FIRST_TIMESTAMP = 1_500_000_000  # as seconds since 1970 it is in 2017, as a duration 47 years
_MILLISECONDS = 100_000_000_000  # as seconds since 1970 it is in 5138

_encode = msgspec.json.Encoder().encode
_ENCODED_LENGTH = len('"2026-01-01T00:00:00.000001Z"')


def as_text(instant: datetime) -> str:
    """Return an instant in ISO 8601, in UTC with microseconds."""
    text = _encode(instant).decode()  # in quotes; several times as fast as isoformat, which each step would call twice
    if len(text) == _ENCODED_LENGTH:  # no other instant has so long a text
        return text[1:-2] + "+00:00"
    return instant.isoformat(timespec="microseconds")  # a whole second, or not in UTC


def seconds_of(duration: float | timedelta, subject: str) -> float:
    """Return a duration in seconds. Raises TypeError and ValueError for what is none, and for a timestamp."""
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
        duration = int(seconds) if seconds.is_integer() else seconds  # as the number would be that says the same
        if duration >= 0:
            return duration
    try:
        is_valid = 0 <= duration < float("inf")
    except TypeError:
        raise TypeError(f"{subject}: expected a number of seconds or a timedelta, got {duration!r}") from None
    if not is_valid:
        raise ValueError(f"{subject}: expected a number of seconds from 0, got {duration!r}")
    if duration >= _FIRST_TIMESTAMP:
        stamp = duration
        while stamp >= _MILLISECONDS:
            stamp /= 1000
        raise ValueError(
            f"{subject}: {duration!r} seconds are more than 47 years, so this must be a timestamp; pass the seconds "
            f"that are left, or call ctx.sleep_until(datetime.fromtimestamp({stamp!r}, UTC))"
        )
    return duration


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration_of(duration: timedelta | str, subject: str) -> timedelta:
    """Return a duration; as text it is a number and a unit, as in 30d or 12h. Raises ValueError for what is none."""
    if isinstance(duration, timedelta):
        return duration
    try:
        return timedelta(**{_UNITS[duration[-1:]]: float(duration[:-1])})
    except (TypeError, KeyError, ValueError, OverflowError):
        raise ValueError(
            f"{subject}: expected a timedelta, or a number with s, m, h, d or w, as in '30d', got {duration!r}"
        ) from None


def check_instant(instant: datetime, subject: str) -> datetime:
    """Return an instant. Raises TypeError and ValueError for what is none, or has no time zone."""
    if not isinstance(instant, datetime):
        raise TypeError(
            f"{subject}: expected a datetime with a time zone, got {instant!r}; for a timestamp, pass "
            f"datetime.fromtimestamp(timestamp, UTC); for a number of seconds, call ctx.sleep"
        )
    if instant.tzinfo is None:
        raise ValueError(f"{subject}: expected an instant with a time zone, got {instant!r}; add tzinfo=UTC")
    return instant
