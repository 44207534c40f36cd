"""The contents of the panel: cards, nested by branch, one page at a time; rows and runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from durable.dashboard.rows import Now, Rows, change_between, message_of, state_of
from durable.dashboard.source import Source
from durable.dashboard.timeline import tell_seconds
from durable.dashboard.values import show_parts, tell
from durable.lab.panel.groups import Entry, Group, draw_group, fold, unfold
from durable.lab.panel.guess import Guess
from durable.replay.keys import program_order
from durable.store.records import StepRecord, WaitRecord

PAGE_STEPS = 40  # cards per page: as many as a page and a person can take in
MAX_VALUE = 100_000  # characters of a value in full
RESULT_LENGTH = 60
MOST_FAILURES = 2  # errors of earlier attempts that a card shows; it counts the older ones


@dataclass(frozen=True, slots=True)
class Page:
    """The entries that are drawn."""

    first: int
    entries: Sequence[Entry | Group]
    total: int

    def describe(self) -> dict[str, int]:
        """Return the place and size of the page, and the number of all entries."""
        return {"first": self.first, "count": len(self.entries), "total": self.total, "size": PAGE_STEPS}


def list_entries(rows: Rows, now: Now, guesses: Sequence[Guess]) -> list[Entry]:
    """Return all steps that can be drawn, in program order."""
    beside = _Beside(guesses, now.waiting)
    entries = [Entry(row.step_key, program_order(row.step_key), beside.of_row(row), row) for row in rows.steps]
    waiting = [key for key in now.waiting if rows.find_step(key) is None]
    entries += [Entry(key, program_order(key), beside.of_waiting(key)) for key in waiting]
    known = {entry.key for entry in entries}
    for guess in _upcoming(rows, known, guesses):
        order: tuple[float, ...] = program_order(guess.step_key) if guess.step_key else (float("inf"),)
        entries.append(Entry(guess.step_key or guess.name, order, guess.is_parallel, guess=guess))
    return sorted(entries, key=lambda entry: entry.order)


def choose_page(steps: Sequence[Entry], first: int | None, opened: Collection[str] = ()) -> Page:
    """Return the page that begins at a place, or else the page with the steps that the workflow is at."""
    entries = fold(steps, opened)
    if first is None:
        ahead = (place for place, entry in enumerate(entries) if not entry.has_ended)
        first = next(ahead, len(entries) - 1) // PAGE_STEPS * PAGE_STEPS
    first = max(0, min(first, len(entries) - 1))
    return Page(first, entries[first : first + PAGE_STEPS], len(entries))


def draw_columns(page: Page, rows: Rows, now: Now, guesses: Sequence[Guess]) -> list[list[dict[str, Any]]]:
    """Return columns from left to right. Each holds parallel cards, and branches with columns of their own."""

    def draw(entry: Entry | Group) -> dict[str, Any]:
        return draw_group(entry, rows, now, guesses) if isinstance(entry, Group) else _card(entry, rows, now)

    columns = _columns([entry for entry in page.entries if not entry.is_compensation], 0, draw)
    undone = [entry for entry in page.entries if entry.is_compensation]
    if undone:  # they run last, the latest registered first
        cards = [[draw(entry)] for entry in reversed(undone)]
        columns.append([{"branch": "compensations", "title": "compensations", "columns": cards}])
    return columns


def _columns(
    entries: Sequence[Entry | Group], depth: int, draw: Callable[[Entry | Group], dict[str, Any]]
) -> list[list[dict[str, Any]]]:
    columns: list[list[dict[str, Any]]] = []
    was_parallel = False
    for (part, is_inner), group in groupby(entries, key=lambda entry: _part(entry.key, depth)):
        inner = list(group)
        if is_inner:
            path = "/".join([*inner[0].key.split("/")[:depth], part])
            box = {"branch": path, "title": f"branch {part}", "columns": _columns(inner, depth + 1, draw)}
            items = [(box, True)]
        else:
            items = [(draw(entry), entry.is_parallel) for entry in inner]
        for item, is_parallel in items:
            if not (is_parallel and was_parallel):
                columns.append([])
            columns[-1].append(item)
            was_parallel = is_parallel
    return columns


def _part(key: str, depth: int) -> tuple[str, bool]:
    """Return an entry's name at a depth, and whether it lies deeper, within a branch of that name."""
    parts = key.split("/")
    return parts[depth], len(parts) > depth + 1


def _scope_of(key: str) -> str:
    return key.rpartition("/")[0]


class _Beside:
    """Return whether a step runs in parallel with the next: by the source if it is known, else by observation."""

    def __init__(self, guesses: Sequence[Guess], waiting: Iterable[str]) -> None:
        self._by_key = {guess.step_key: guess.is_parallel for guess in guesses if guess.step_key}
        named: dict[str, set[bool]] = {}
        for guess in guesses:
            named.setdefault(guess.name, set()).add(guess.is_parallel)
        self._by_name = {name: is_parallel for name, (is_parallel, *others) in named.items() if not others}
        scopes = sorted(map(_scope_of, waiting))  # in a scope that runs one step after the other, only one waits
        self._scopes = {scope for scope, keys in groupby(scopes) if len(list(keys)) > 1}

    def of_row(self, row: StepRecord) -> bool:
        """Return this by the source, or else by whether a worker ran it, and not the thread of its own scope."""
        known = self._by_source(row.step_key)
        return row.thread != (_scope_of(row.step_key) or "main") if known is None else known

    def of_waiting(self, key: str) -> bool:
        """Return this by the source, or else by whether others of its scope wait too."""
        known = self._by_source(key)
        return _scope_of(key) in self._scopes if known is None else known

    def _by_source(self, key: str) -> bool | None:
        if _scope_of(key):
            return None  # the steps of a branch were not read
        return self._by_key.get(key, self._by_name.get(key.rpartition("_")[0]))


def _upcoming(rows: Rows, known: Iterable[str], guesses: Sequence[Guess]) -> list[Guess]:
    """Return the guesses that can still come true: not the path that was not taken. A loop may go on."""
    if rows.workflow is not None and rows.workflow.status == "completed":
        return []
    keys = {key for known_key in known for key in (known_key, known_key.partition("/")[0])}
    names = {key.rpartition("_")[0] for key in keys}
    is_true = [guess.step_key in keys if guess.step_key else guess.name in names for guess in guesses]
    last = max((place for place, reached in enumerate(is_true) if reached), default=-1)
    return [
        guess
        for place, guess in enumerate(guesses)
        if (not is_true[place] and (guess.step_key or place > last))
        or (place == last and guess.is_repeated and not guess.is_parallel)
    ]


# ---- one card


def _card(entry: Entry, rows: Rows, now: Now) -> dict[str, Any]:
    card = _row_card(entry.row, rows, now) if entry.row is not None else _upcoming_card(entry, now)
    can_crash = card["state"] in ("upcoming", "zombie", "failed") and not (entry.guess and entry.guess.is_branch)
    return {"key": entry.key, "next": entry.key in now.waiting[:1], "can_crash": can_crash, **card}


def _row_card(step: StepRecord, rows: Rows, now: Now) -> dict[str, Any]:
    state, said = state_of(step, rows, now), rows.said_by(step)
    is_registered = state == "registered"  # it has had no effect: no value and no time to show
    text = message_of(step.error) or tell(step.output) or ", ".join(each.text for each in said)
    seconds = 0.0 if step.ended_at is None else (step.ended_at - step.started_at).total_seconds()
    return {
        "state": state,
        "kind": "" if step.kind in ("step", step.name) else step.kind,
        "word": _word(step, state, rows),
        "twice": bool(rows.lost_attempts(step.step_key)),
        "attempt": step.attempt,
        "took": "" if is_registered or step.ended_at is None else tell_seconds(seconds),
        "result": "" if is_registered else _shorten(text),
        "failures": _failures(rows.earlier_attempts(step.step_key)),
        "share": next((each.share for each in said if each.share is not None), None),
    }


def _upcoming_card(entry: Entry, now: Now) -> dict[str, Any]:
    is_next = entry.key in now.waiting[:1]
    return {
        "state": "upcoming",
        "kind": "",
        "word": "next" if is_next else _guess_word(entry.guess) if entry.guess else "waits",
        "twice": False,
        "attempt": None,
        "took": "",
        "result": "",
        "failures": [],
        "share": None,
    }


def _failures(earlier: Sequence[StepRecord]) -> list[str]:
    """Return the errors of the latest earlier attempts, in words."""
    told = [f"attempt {row.attempt}: {_shorten(message_of(row.error))}" for row in earlier if row.error is not None]
    more = len(told) - MOST_FAILURES
    return ([f"{more} earlier {'error' if more == 1 else 'errors'}"] if more > 0 else []) + told[-MOST_FAILURES:]


def _guess_word(guess: Guess) -> str:
    if guess.is_branch:
        return "expected branch"
    word = "possible" if guess.is_conditional else "expected, in a loop" if guess.is_repeated else "expected"
    return f"{word}, {guess.bounds}" if guess.bounds else word


def _word(step: StepRecord, state: str, rows: Rows) -> str:
    """Return the state in words. If a step was tried again, they say how often it ran, if that is known."""
    if state == "waiting":
        return _waiting_word(step, rows.waits[step.step_key])
    if state == "registered":
        return _registered_word(step, rows)
    word = {"replayed": "replayed, not run", "zombie": "zombie, never saved"}.get(state, state)
    if not rows.lost_attempts(step.step_key) or state in ("zombie", "failed"):
        return word
    if state == "running":
        return "running again"
    count = len(rows.effects.get(step.step_key, ()))
    again = {0: "may have run twice", 1: "ran once"}.get(count, f"ran {times(count)}")
    return again if state == "completed" else f"{word}; {again}"


def _registered_word(step: StepRecord, rows: Rows) -> str:
    """Say when a compensation will run, or whether it has."""
    compensation = rows.find_step(f"{step.step_key}/{step.name}_1")
    if compensation is not None:
        return "registered, and has run" if compensation.ended_at is not None else "registered, runs now"
    is_completed = rows.workflow is not None and rows.workflow.status == "completed"
    return "registered, was not needed" if is_completed else "registered, runs if the workflow fails"


def _waiting_word(step: StepRecord, wait: WaitRecord) -> str:
    until = f" until {wait.wake_at:%H:%M:%S} UTC" if wait.wake_at else ""
    if step.status == "failed":
        return f"failed, to be tried again; waits{until}"
    return f"waits for {tell_awaited(wait)}{until}" if wait.event or wait.child_id else f"waits{until}"


def tell_awaited(wait: WaitRecord) -> str:
    """Return what a step waits for, in words; empty if it is only an instant."""
    if wait.event is not None:
        return f"the event {wait.event!r}"
    return "" if wait.child_id is None else f"the child {wait.child_id!r}"


def times(number: int) -> str:
    """Return `twice` or `3 times`."""
    return "twice" if number == 2 else f"{number} times"  # noqa: PLR2004 - English has a word for it


def _shorten(text: str | None) -> str:
    if text is None:
        return ""
    return text if len(text) <= RESULT_LENGTH else f"{text[: RESULT_LENGTH - 3]}..."


def tell_value(rows: Rows, step_key: str, reader: Source) -> dict[str, Any] | None:
    """Return all records of a step: its value in full, with its formatted parts, and each attempt."""
    step = rows.find_step(step_key)
    if step is None:
        return None
    tries = sorted([row for row in rows.attempts if row.step_key == step_key] + [step], key=lambda row: row.attempt)
    text = message_of(step.error) or ("no value is saved" if step.output is None else tell(step.output, indent=2))
    cut = f"\n... {len(text) - MAX_VALUE} characters more" if len(text) > MAX_VALUE else ""
    return {
        "key": step_key,
        "text": text[:MAX_VALUE] + cut,
        "tries": [_tell_try(row, rows) for row in tries],
        "parts": show_parts(reader, step.output),
    }


def _tell_try(row: StepRecord, rows: Rows) -> str:
    pid = next((run.pid for run in rows.runs if run.epoch == row.epoch), "?")
    where = f"attempt {row.attempt}: process {pid}, {row.thread}, from {row.started_at:%H:%M:%S} UTC"
    if row.ended_at is not None:
        error = "" if row.error is None else f": {_shorten(message_of(row.error))}"
        return f"{where}, {row.status} after {tell_seconds((row.ended_at - row.started_at).total_seconds())}{error}"
    return f"{where}, {'running' if row.epoch == rows.epoch and rows.owner is not None else 'never saved'}"


# ---- the tables


def list_rows(steps: Iterable[StepRecord], page: Page, before: Iterable[StepRecord] | None = None) -> list[Any]:
    """Return the rows of a page, in the classic shape of the steps table. `change` compares with those at the crash."""
    drawn = {entry.key for entry in islice(unfold(page.entries), PAGE_STEPS)}
    old = {row.step_key: row for row in before or ()}
    return [
        {
            "step_key": row.step_key,
            "status": row.status,
            "attempt": row.attempt,
            "output": _shorten(tell(row.output)),
            "change": None if before is None else change_between(old.get(row.step_key), row),
        }
        for row in steps
        if row.step_key in drawn
    ]


def list_lives(rows: Rows, pid: int) -> list[dict[str, Any]]:
    """Return one entry per run: its process, and how it ended."""
    lives: list[dict[str, Any]] = [{"pid": run.pid, "ended": run.ended or "alive"} for run in rows.runs]
    if not lives or (lives[-1]["ended"] != "alive" and lives[-1]["pid"] != pid):
        lives.append({"pid": pid, "ended": "ready"})
    return lives
