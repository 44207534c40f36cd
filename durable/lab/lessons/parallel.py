"""The exercises of notebook 04: keys that do not move, futures that are asked for at the right time. And its figure."""

from __future__ import annotations

import io
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image  # matplotlib needs it too

from durable import Engine
from durable.lab.course.crashes import crash_everywhere, find_fault, table
from durable.lab.questions.checks import Exercise, Verdict, not_yet, right
from durable.lab.views.plots import INK, Picture

# ---- the figure


class Small(Picture):
    """Return a picture of few colours and few bytes: notebooks are committed with their outputs."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=80)
        image = Image.open(buffer).convert("P", palette=Image.Palette.ADAPTIVE, colors=32)
        small = io.BytesIO()
        image.save(small, format="png", optimize=True)
        return small.getvalue()


def draw_numbers(runs: Sequence[dict[str, int]], title: str) -> Picture:
    """Draw, for each step, how often its key had each number: one dark cell per row if keys do not move."""
    steps = list(runs[0])
    numbers = sorted({number for run in runs for number in run.values()})
    counts = [[sum(run[step] == number for run in runs) for number in numbers] for step in steps]
    figure = Small(figsize=(max(5.5, 1.9 + 0.75 * len(numbers)), 0.9 + 0.42 * len(steps)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues", vmin=0, vmax=len(runs), aspect="auto")
    for (row, line), column in itertools.product(enumerate(counts), range(len(numbers))):
        colour = "white" if line[column] > len(runs) / 2 else INK
        axes.text(column, row, str(line[column] or ""), ha="center", va="center", fontsize=11, color=colour)
    axes.set_yticks(range(len(steps)), steps, fontsize=11, color=INK)
    axes.set_xticks(range(len(numbers)), [str(number) for number in numbers], fontsize=11, color=INK)
    axes.set_xlabel(f"number in the key, in {len(runs)} runs", fontsize=11)
    axes.set_title(title, fontsize=12, loc="left", color=INK)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


# ---- q1


class Keys(Protocol):
    """The class that the exercise asks for."""

    def draw(self, branch: str, name: str) -> str:
        """Return the key of the next call."""
        ...


CALLS = (("laptop", "order"), ("laptop", "engrave"), ("desk", "order"), ("desk", "order"))


def judge_rule(make: Callable[[], Keys]) -> Verdict:
    """Judge on every possible order of the calls of two branches: the keys are the same, and no two are alike."""
    first: dict[tuple[str, str, int], str] = {}
    first_order: tuple[str, ...] = ()
    for order in _interleavings():
        drawn = _draw_in(order, make())
        alike = [call for call, key in drawn.items() if list(drawn.values()).count(key) > 1]
        if alike:
            (b1, n1, _), (b2, n2, _) = alike[:2]
            return not_yet(
                f"{n1!r} of the branch {b1} and {n2!r} of the branch {b2} are two calls and got one key, "
                f"{drawn[alike[0]]!r}: the second would be answered with the result of the first.",
                _show((order, drawn)),
            )
        if not first:
            first, first_order = drawn, order
        if moved := [call for call in drawn if drawn[call] != first[call]]:
            branch, name, _ = moved[0]
            return not_yet(
                f"the key of {name!r} in the branch {branch} moves: {first[moved[0]]!r} when the branches come in the "
                f"order {' '.join(first_order)}, and {drawn[moved[0]]!r} when they come as {' '.join(order)}.",
                _show((first_order, first), (order, drawn)),
            )
    return right("in all 6 orders in which the two branches can come: every call has its own key, and always the same.")


def _interleavings() -> Iterator[tuple[str, ...]]:
    return iter(dict.fromkeys(itertools.permutations([branch for branch, _ in CALLS])))


def _draw_in(order: Sequence[str], keys: Keys) -> dict[tuple[str, str, int], str]:
    """Return the key of each call (branch, name, its place in the branch), drawn in the order of the branches."""
    todo = {branch: [name for of, name in CALLS if of == branch] for branch in ("laptop", "desk")}
    drawn: dict[tuple[str, str, int], str] = {}
    for branch in order:
        name = todo[branch].pop(0)
        drawn[branch, name, 2 - len(todo[branch])] = keys.draw(branch, name)
    return {call: drawn[call] for call in sorted(drawn, key=lambda call: (call[0] == "desk", call[2]))}


def _show(*runs: tuple[Sequence[str], dict[tuple[str, str, int], str]]) -> str:
    (_, first), (_, last) = runs[0], runs[-1]
    many = [list(drawn.values()) for _, drawn in runs]
    rows = []
    for n, call in enumerate(first):
        marks = ["!" if first[call] != last[call] or keys.count(keys[n]) > 1 else "" for keys in many]
        rows.append((f"{call[0]}: {call[1]}", *(mark + keys[n] for mark, keys in zip(marks, many, strict=True))))
    return table(("call", *(f"in the order {' '.join(order)}" for order, _ in runs)), rows)


q1 = Exercise(
    "04.q1",
    judge_rule,
    "A lock makes numbers unique. It does not make them the same each time: who comes first is still chance.",
    "Within one branch the order of calls is certain. So count in each branch by itself, in a dictionary.",
    "Two branches both have a first call: put the branch's name into the key.",
)

# ---- q2


def judge_keys(keys: Any, workflow: Callable[..., Any]) -> Verdict:
    """Run the program, and compare with the recorded keys."""
    if isinstance(keys, str):
        return not_yet('the answer is to be a list or a set of keys, as in ["greet_1"]')
    with Engine(_new_database()) as engine:
        engine.run("prediction", workflow)
        truth = [step.step_key for step in engine.steps("prediction")]
    if missing := [key for key in truth if key not in keys]:
        return not_yet(
            f"{len(truth) - len(missing)} of {len(truth)} are right. Among those you have not: {missing[0]}."
        )
    if extra := [key for key in keys if key not in truth]:
        return not_yet(f"all {len(truth)} are there, and one too many: {extra[0]}.")
    return right(f"{', '.join(truth)}: in this run and in every other.")


q2 = Exercise(
    "04.q2",
    judge_keys,
    "Numbers are given where the workflow calls, from top to bottom; how long a step takes is of no account.",
    "A branch takes a number too, and has no row of its own; what is called within stands below its key: desk_2/...",
)

# ---- q3

TRIES = 3  # on a busy machine, a step can end before the next thread starts


def judge_parallel(fast: Callable[..., Any]) -> Verdict:
    """Judge on the same result as before, on overlapping steps, and on crashes at every moment."""
    items = ["lamp", "desk", "chair"]
    wanted = [f"{item} is wrapped" for item in items]
    with Engine(_new_database()) as engine:
        result = engine.run("fast", fast, items)
        if result != wanted:
            return not_yet(f"it returned {result!r}; expected is {wanted!r}, in the order of the items.")
        is_parallel = any(_overlap(engine, f"fast {number}", fast, items) for number in range(TRIES))
    if not is_parallel:
        return not_yet(
            "the result is right, and no two steps ran at the same time. Is each future asked for its result before "
            "the next is submitted?"
        )
    report = crash_everywhere(fast, items)
    return find_fault(report) or right(
        f"the steps overlap, and {report.kills} kills changed nothing about the result.", report._repr_html_()
    )


def _overlap(engine: Engine, workflow_id: str, fast: Callable[..., Any], items: list[str]) -> bool:
    """Return whether two of its steps ran at the same time."""
    engine.run(workflow_id, fast, items)
    spans = [(step.started_at, step.ended_at) for step in engine.steps(workflow_id) if step.ended_at]
    return any(a[0] < b[1] and b[0] < a[1] for a, b in itertools.combinations(spans, 2))


q3 = Exercise(
    "04.q3",
    judge_parallel,
    "result() waits. First submit all, then ask.",
    "ctx.map(wrap, items) does both.",
)


def _new_database() -> Path:
    return Path(tempfile.mkdtemp()) / "course.db"
