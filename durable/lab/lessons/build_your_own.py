"""The exercises of notebook 06: a reader's own engine, crashed at each of its instants; and the classic mistakes."""

from __future__ import annotations

import inspect
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from durable.lab.course.crashes import table
from durable.lab.course.rig import Life, Run, Story, play
from durable.lab.questions.checks import Exercise, Verdict, is_missing, not_yet, right

MISTAKES = {
    "fails": "it raises, although nothing has crashed",
    "endless": "it does not end: a loop, or a wait for what never comes",
    "one key": "one key for several calls: a later call is answered with the result of an earlier one",
    "amnesia": "amnesia: the work is not on record, or the record is never read",
    "none": "None or 0 on record is taken for nothing on record, as by `if found and found[0]`",
    "value": "another value on the replay than on the first run",
    "shared": "two workflow ids share their rows",
    "early": "saved too early: the step is on record before its effect has happened",
    "late": "saved too late: a step is finished, and not yet on record when the next one begins",
    "moved": "keys are drawn by the workers: a finished step has another key after the crash",
}
EXPECTED = {  # result and effects, undisturbed
    "order": ("['shelf of the lamp', 40, 'parcel with a lamp']", ["reserve lamp", "charge 40", "ship lamp"]),
    "loop": (
        "['parcel with a lamp', 'parcel with a desk', 'parcel with a chair']",
        ["ship lamp", "ship desk", "ship chair"],
    ),
    "falsy": ("[None, 0, 'parcel with a lamp']", ["wave", "look", "ship lamp"]),
    "pair": (None, ["measure"]),
    "two": ("[[40], [40]]", ["charge 40", "charge 40"]),
    "parallel": ("['parcel with a lamp', 'parcel with a desk', 40]", ["ship lamp", "ship desk", "charge 40"]),
}
NEED_A_KILL = ("early", "late")
PROGRESS_SECONDS = 0.2  # between two counts of the kills
SHOWS = {  # the mistakes that each workflow can show
    "order": ("fails", "endless", "amnesia", "early", "late"),
    "loop": ("one key",),
    "falsy": ("none",),
    "pair": ("value",),
    "two": ("shared",),
    "parallel": ("moved",),
}


class Found(NamedTuple):
    """A mistake, the story that shows it, and a description of the story."""

    mistake: str
    story: Story
    text: str


# ---- the verdict on a story


def diagnose(story: Story) -> Found | None:
    """Return the mistake that a story shows, or None."""
    found = _undisturbed(story) if not story.killed_at else _crashed(story)
    if found is None:
        return None
    mistake, text = found
    if story.workflow == "parallel" and mistake not in ("fails", "endless"):  # it is right about sequential steps
        mistake = "moved"
    return Found(mistake, story, text)


def _undisturbed(story: Story) -> tuple[str, str] | None:
    """Judge a story without a kill: the second run finds everything on record."""
    name, (first, again) = story.workflow, story.lives
    result, effects = EXPECTED[name]
    if first.ended != "completed":
        return _unfinished(first, f"undisturbed, the workflow {name!r}")
    if Counter(first.effects) != Counter(effects):
        mistake = "shared" if name == "two" else "one key"
        return mistake, f"undisturbed, {name!r} did {_list(first.effects)}; expected: {_list(effects)}"
    if result is not None and first.said != result:
        return ("one key" if name == "loop" else "value"), f"undisturbed, {name!r} returned {first.said}, not {result}"
    if again.effects and name == "falsy":  # whatever comes of it, as an insert of a key that is there
        return "none", f"{name!r} was completed; run once more, it did again: {_list(again.effects)}{_how(again)}"
    if again.ended != "completed":
        return _unfinished(again, f"{name!r} was completed; run once more, it")
    if again.effects:
        return "amnesia", f"{name!r} was completed; run once more, it did again: {_list(again.effects)}"
    if again.said != first.said:
        return "value", f"on the first run {first.said}; on the replay {again.said}"
    return None


def _crashed(story: Story) -> tuple[str, str] | None:
    """Judge a story whose first run was killed."""
    name, (killed, resumed) = story.workflow, story.lives
    result, effects = EXPECTED[name]
    where = f"{name!r} was killed {story.killed_at}{f' ({killed.line})' if killed.line else ''}"
    if killed.ended == "endless":
        return _unfinished(killed, f"{name!r}, which was to be killed {story.killed_at},")
    if resumed.ended != "completed":
        return _unfinished(resumed, f"{where}; run again, it")
    wanted, done = Counter(effects), Counter(story.effects)
    if lost := list((wanted - done).elements()):
        return "early", f"{where}; after the resume {lost[0]!r} had never happened"
    finished = [what for what in killed.effects[:-1] if what in resumed.effects] if name != "two" else []
    if name == "parallel":
        # a finished sibling can be unsaved only while it is in flight: two at most, and no third time
        finished = [what for what in finished if "charge 40" in killed.effects]
    if finished:
        mistake = "none" if name == "falsy" else "late"
        return mistake, f"{where}; {finished[0]!r} had been done well before that, and was done again"
    if result is not None and resumed.said != result:
        return "value", f"{where}; after the resume it returned {resumed.said}, not {result}"
    return None


def _unfinished(life: Life, who: str) -> tuple[str, str]:
    """Say how a run ended that has no result."""
    if life.ended == "endless":
        place = f", and was stopped at {life.line}" if life.line else ", and was stopped"
        return "endless", f"{who} did not end{place}"
    return "fails", f"{who} ended with {life.said}{f', at {life.line}' if life.line else ''}"


def _how(life: Life) -> str:
    return f", and then ended with {life.said}, at {life.line}" if life.ended == "failed" else ""


def _list(what: Sequence[str]) -> str:
    return ", ".join(what) or "nothing"


# ---- the verdict on an engine


def judge_engine(run: Run, workflows: Sequence[str], praise: str) -> Verdict:
    """Describe the first mistake, in words and as a picture; any later ones may only be its consequence.

    All workflows are played undisturbed first: a mistake that needs no kill is named before any.
    """
    kills = 0
    with closing(_Progress()) as progress, closing(play(run, workflows, progress.show)) as stories:
        for story in stories:
            if found := diagnose(story):
                words = f"{found.text}. The classic mistake: {MISTAKES[found.mistake]}."
                return not_yet(words, _draw(found, workflows) + _tell(found.story))
            kills += bool(story.killed_at)
    return right(f"{kills} kills, each resumed. {praise}", _draw(None, workflows))


class _Progress:
    """The kills so far, below the cell while the judge works; nothing outside of a notebook."""

    def __init__(self) -> None:
        self._shown_at = 0.0
        self._clear: Callable[..., None] | None = None

    def show(self, done: int, total: int) -> None:
        if time.monotonic() - self._shown_at < PROGRESS_SECONDS or "ipykernel" not in sys.modules:
            return
        from IPython.display import clear_output

        self._shown_at, self._clear = time.monotonic(), clear_output
        clear_output(wait=True)  # type: ignore[no-untyped-call]
        print(f"{done} of {total} kills", flush=True)  # noqa: T201 - the reader waits for the verdict

    def close(self) -> None:
        """Have the verdict replace what is shown."""
        if self._clear is not None:
            self._clear(wait=True)


def _draw(found: Found | None, workflows: Sequence[str]) -> str:
    """List all classic mistakes: those that were avoided, the one that was found, and those not tried yet."""
    undisturbed = killed = workflows
    if found is not None:
        before = workflows[: workflows.index(found.story.workflow)]
        undisturbed, killed = (workflows, before) if found.story.killed_at else (before, ())
    avoided = {mistake for name in undisturbed for mistake in SHOWS[name] if mistake not in NEED_A_KILL}
    avoided |= {mistake for name in killed for mistake in SHOWS[name]}
    marks = {mistake: "\u2713 avoided" if mistake in avoided else "\u2026 not tried yet" for mistake in MISTAKES}
    if found is not None:
        marks[found.mistake] = "!\u2716 found"
    return table(("", "the classic mistakes"), [(marks[mistake], text) for mistake, text in MISTAKES.items()])


def _tell(story: Story) -> str:
    rows = [
        (f"run {n}", _list(life.effects), f"{life.ended} {life.said}", life.printed)
        for n, life in enumerate(story.lives, 1)
    ]
    if not any(life.printed for life in story.lives):
        return table((story.workflow, "did", "ended"), [row[:3] for row in rows])
    return table((story.workflow, "did", "ended", "printed"), rows)


# ---- q1


def judge_store(open_store: Callable[..., Any], save: Callable[..., Any], load: Callable[..., Any]) -> Verdict:
    """Save through one connection and read through another, as the next process would."""
    path = Path(tempfile.mkdtemp()) / "engine.db"
    with closing(open_store(path)) as one, closing(open_store(path)) as other:
        if (nothing := load(other, "a", "step_1")) is not None:
            return not_yet(f"nothing was saved, and load gave {nothing!r}; expected is None.")
        for number, value in enumerate((40, "lamp", [1, 2], {"a": 1}, 0, "", None), 1):
            save(one, "a", f"step_{number}", value)
            found = load(other, "a", f"step_{number}")
            if found is None and load(one, "a", f"step_{number}") is not None:
                return not_yet(
                    f"save(..., {value!r}) has returned, and another connection sees nothing of it. A crash now would "
                    "lose it: it is not committed."
                )
            if found != (value,):
                return not_yet(
                    f"{value!r} was saved, and load gave {found!r}; expected is {(value,)!r}: a tuple, so that None on "
                    "record can be told from nothing on record."
                )
        if (stray := load(other, "b", "step_1")) is not None:
            return not_yet(f"the workflow 'a' has saved its step_1, and 'b' has not; yet for 'b' load gave {stray!r}.")
    return right("7 values, seen at once by a second connection, each under its own workflow.")


q1 = Exercise(
    "06.q1",
    judge_store,
    "Values become text with json.dumps, and values again with json.loads.",
    "After an insert, db.commit(). Without it the row is only yours, and a crash takes it.",
    "load: fetchone() gives None or a row; from a row make a tuple of one value.",
)

# ---- q2 and q3

IN_TURN = ("order", "loop", "falsy", "pair", "two")


def judge_run(run: Run) -> Verdict:
    """Judge an engine on steps one after the other."""
    return judge_engine(run, IN_TURN, "Whatever is saved is never done again, and nothing is lost.")


def judge_submit(run: Run, context: Any) -> Verdict:
    """Judge an engine on the same and on parallel steps."""
    if is_missing(getattr(context, "submit", None)):
        return not_yet("the answer is still empty; write submit in the cell above, and run both cells again")
    return judge_engine(run, (*IN_TURN, "parallel"), "That is a durable engine, and you have written it.")


q2 = Exercise(
    "06.q2",
    judge_run,
    "Four lines: draw the key, look it up, do the work, save. In which order?",
    "What is on record may be None: ask `is not None` of the row, not of the value.",
    "The first run has to see what a replay would see: return what load gives, not what the function gave.",
)
q3 = Exercise(
    "06.q3",
    judge_submit,
    "Which of the lines may run in the worker, and which has to run before submit returns?",
    "Draw the key first, in the caller. Then give the key to the worker.",
)


def count_lines(*parts: Any) -> int:
    """Count the lines of code in some functions and classes of a notebook, without empty ones."""
    functions = [fn for part in parts for fn in (vars(part).values() if isinstance(part, type) else [part])]
    lines = [line for fn in functions if inspect.isfunction(fn) for line in inspect.getsource(fn).splitlines()]
    return sum(bool(line.strip()) for line in lines) + sum(isinstance(part, type) for part in parts)
