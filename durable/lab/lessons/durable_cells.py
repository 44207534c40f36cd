"""The exercises of notebook 11: a loop that survives, the edits after which a cell runs again, a file that counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from durable.lab.course.crashes import table
from durable.lab.course.lives import Life, Told, ask_price, cell_of, die_in, live, price_of, read_bill, run_again
from durable.lab.panel.imports import collect_imports
from durable.lab.questions.checks import Exercise, Verdict, not_yet, right

__all__ = ["ask_price", "crash_in", "kill_switch", "next_life", "q1", "q2", "q3", "read_bill", "run_again"]

IMPORTS = "import durable, numpy as np, pandas as pd\nfrom durable.lab.lessons.durable_cells import ask_price"

# ---- kills

NOTICE_SECONDS = 0.5  # for the last words of a kernel on their way to the page


def kill_switch(calls: int = 8) -> Any:
    """Show a slider and a button that has this kernel killed in a call of `ask_price`."""
    import ipywidgets as widgets  # type: ignore[import-untyped]

    call = widgets.IntSlider(value=5, min=1, max=calls, description="die in call")
    button, said = widgets.Button(description="Arm", button_style="danger"), widgets.Label("Not armed.")

    def arm(_: object) -> None:
        die_in(call.value, NOTICE_SECONDS)
        said.value = f"Armed: the kernel will die in call {call.value}. Run the next cell."

    button.on_click(arm)
    return widgets.HBox([call, button, said])


@dataclass(frozen=True)
class Story:
    """A notebook that was killed in a call of `ask_price`, and run again; beside it, one that was not killed."""

    undisturbed: Told
    killed: Told
    resumed: Told

    @property
    def calls_again(self) -> int:
        """Return how many calls the second life made."""
        return len(self.resumed.calls)

    @property
    def is_same(self) -> bool:
        """Return whether all ended with the same values and the same next random number."""
        return self.undisturbed.texts[-1] == self.resumed.texts[-1]

    def __repr__(self) -> str:
        return "\n".join(f"{head}: {calls}; {ended.removeprefix('!')}" for head, calls, ended in self._rows())

    def _repr_html_(self) -> str:
        return table(["life", "shops that it asked", "how it ended"], self._rows())

    def _rows(self) -> list[tuple[str, str, str]]:
        end = "at its end, with the same values" if self.is_same else "!at its end, with other values"
        lives = [
            ("undisturbed", self.undisturbed, "at its end"),
            ("first", self.killed, "killed" if self.killed.is_killed else "at its end"),
            ("second", self.resumed, end),
        ]
        return [(head, ", ".join(map(str, told.calls)) or "none", ended) for head, told, ended in lives]


def crash_in(call: int, *names: str, look: str) -> Story:
    """Run the imports and durable cells of this notebook in a process that dies in a call, and then in another one.

    `look` is an expression whose value is compared at the end, together with the next random number.
    """
    cells = [collect_imports(), *map(cell_of, names), f"print(repr({look}), np.random.rand())"]
    (undisturbed,), (killed, resumed) = live([Life(cells)], [Life(cells, call), Life(cells)])
    return Story(undisturbed, killed, resumed)


def next_life(*names: str, look: str) -> str:
    """Run durable cells of this notebook in a process; return the value of an expression in the next one, as text."""
    cells = [collect_imports(), *map(cell_of, names), f"print(repr({look}), end='')"]
    ((_, second),) = live([Life(cells), Life(cells)])
    return second.texts[-1]


# ---- q1

SHOPS = 6


def judge_loop(name: str) -> Verdict:
    """Kill the reader's cell in each of its calls, run it again, and count what was paid."""
    cells = [IMPORTS, cell_of(name), "print(asked)"]
    kills = range(1, SHOPS + 1)
    (whole,), *stories = live([Life(cells)], *([Life(cells, call), Life(cells)] for call in kills))
    expected = f"{[price_of(shop) for shop in range(SHOPS)]}\n"
    if whole.texts[-1] != expected:
        return not_yet(f"undisturbed, asked is {whole.texts[-1].strip()}; expected is {expected.strip()}")
    for call, (killed, resumed) in zip(kills, stories, strict=True):
        if resumed.texts[-1] != expected:
            return not_yet(f"killed in call {call} and run again, asked is {resumed.texts[-1].strip()}")
        paid = len(killed.calls) + len(resumed.calls)
        if paid > SHOPS + 1:
            return not_yet(f"killed in call {call} and run again: {paid} calls for {SHOPS} prices. {_why(cells[1])}")
    return right(f"{SHOPS} kills, and after each only the call is made again in which the kernel died.")


def _why(cell: str) -> str:
    if "durable.map" in cell:
        return "Several were in flight when the kernel died; how many does max_concurrent say?"
    if "durable.each" not in cell:
        return "The loop leaves nothing on record before its end."
    return "The passes are quicker than a second, and durable.each saves once a second; see every_seconds."


q1 = Exercise(
    "11.q1",
    judge_loop,
    "durable.each goes around what the loop runs over. How often does it save?",
    "durable.each(range(6), every_seconds=0) saves after each pass.",
)

# ---- q2

PRICES = "%%durable prices\nprices = {3: 1011, 8: 996}"
HELPERS = """rate, unused = 1.1, 0


def in_dollars(euros):
    return euros * rate"""
REPORT = """%%durable report
# the best offer
best = in_dollars(min(prices.values()))
print(f"{best:.2f} dollars")"""

EDITS = {
    "the comment in the cell": (REPORT, REPORT.replace("best offer", "lowest price")),
    "`rate` is 1.2": (HELPERS, HELPERS.replace("1.1", "1.2")),
    "`rate` is 1.1 again, by `rate = 11 / 10`": (HELPERS, f"{HELPERS}\nrate = 11 / 10"),
    "`unused` is 1": (HELPERS, HELPERS.replace("1.1, 0", "1.1, 1")),
    "`in_dollars` returns `round(euros * rate)`": (HELPERS, HELPERS.replace("euros * rate", "round(euros * rate)")),
    "a cell before it runs `prices[9] = 2000`": (HELPERS, f"{HELPERS}\nprices[9] = 2000"),
}


def judge_edits(runs_again: dict[str, bool]) -> Verdict:
    """Make each edit between two lives of the same cells, and look whether the cell runs again."""
    if set(runs_again) != set(EDITS):
        return not_yet("the edits are to stay as they are; put True or False beside each")
    before = [PRICES, HELPERS, REPORT]
    stories = []
    for old, new in EDITS.values():
        after = [new if cell == old else cell for cell in before]
        stories.append([Life([IMPORTS, *before]), Life([IMPORTS, *after])])
    for edit, (_, told) in zip(EDITS, live(*stories), strict=True):
        first, *_ = told.texts[-1].splitlines()
        is_again = " runs again: " in first
        if runs_again[edit] != is_again:
            said = f"the cell says: {first}" if is_again else "the cell was brought back"
            return not_yet(f"{edit}: {said}.")
    return right("what counts is the content of all that the cell reads, also through functions.")


q2 = Exercise(
    "11.q2",
    judge_edits,
    "Which of these does the cell read, itself or by the function that it calls?",
    "A value counts by its content: 11 / 10 and 1.1 are the same number. Comments do not count.",
)

# ---- q3


def judge_file(name: str) -> Verdict:
    """Change the file between two lives of the reader's cell; then leave it as it is."""
    cell = cell_of(name)
    write = "from pathlib import Path\ntax_file = Path('tax.txt')\n_ = tax_file.write_text('{}')"
    lives = [Life([IMPORTS, write.format(tax), cell, "print(tax)"]) for tax in (0.19, 0.25, 0.25)]
    ((first, changed, unchanged),) = live(lives)
    for told, expected in ((first, "0.19"), (changed, "0.25"), (unchanged, "0.25")):
        found = told.texts[-1].strip()
        if found != expected:
            return not_yet(f"the file says {expected}, and in the next kernel tax is {found}.")
    if "runs again" in unchanged.texts[2]:
        return not_yet(f"the file has not changed, and the cell says: {unchanged.texts[2].splitlines()[0]}")
    return right("the cell runs again when the file has changed, and only then.")


q3 = Exercise(
    "11.q3",
    judge_file,
    "The cell has to name the file: durable.input.",
    "durable.input(tax_file) returns tax_file, and has the content of the file compared.",
)
