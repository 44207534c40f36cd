"""Verdicts on a reader's answers, in words: right, or not yet and why. A check never raises."""

from __future__ import annotations

import dis
import html
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from durable.progress.record import remember

RIGHT, NOT_YET, NOTE = "right", "not yet", "note"
COLOURS = {RIGHT: "#007a5a", NOT_YET: "#a86b00", NOTE: "#5b6472"}
_DOES_NOTHING = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "POP_TOP"}


@dataclass(frozen=True)
class Verdict:
    """The result of a check: its kind, the words, and a picture as HTML if one helps."""

    kind: str
    words: str
    picture: str = ""

    @property
    def is_right(self) -> bool:
        """Return whether the answer is right."""
        return self.kind == RIGHT

    def __repr__(self) -> str:
        return self.words if self.kind == NOTE else f"{self.kind}: {self.words}"

    def _repr_html_(self) -> str:
        head = "" if self.kind == NOTE else f"<b style='color:{COLOURS[self.kind]}'>{self.kind}:</b> "
        words = html.escape(self.words).replace("\n", "<br>")
        return (
            f"<div style='border-left:4px solid {COLOURS[self.kind]};padding:.3em .8em;margin:.2em 0;max-width:52em'>"
            f"<p style='margin:0'>{head}{words}</p>{self.picture}</div>"
        )


def right(words: str, picture: str = "") -> Verdict:
    """Return the verdict for a right answer."""
    return Verdict(RIGHT, words, picture)


def not_yet(words: str, picture: str = "") -> Verdict:
    """Return the verdict for a wrong answer, with the smallest case that shows it."""
    return Verdict(NOT_YET, words, picture)


class Exercise:
    """A question with a check, hints and a solution. `name` is `<notebook>.<question>`, as in `04.q2`.

    A check that passes is remembered under this name.
    The judge gets the reader's answers. An exception comes from the reader's code, and becomes words.
    """

    def __init__(self, name: str, judge: Callable[..., Verdict], *hints: str) -> None:
        self.name, self._judge, self._hints = name, judge, hints
        self._shown = 0

    def check(self, *answers: Any) -> Verdict:
        """Return a verdict on the answers, with the smallest counterexample. Does not raise."""
        if any(is_missing(answer) for answer in answers):
            return not_yet("the answer is still empty; write yours in the cell above, and run both cells again")
        try:
            verdict = self._judge(*answers)
        except Exception as error:  # the reader's code can raise anything
            return not_yet(f"your code raised {type(error).__name__}: {error}")
        if verdict.is_right:
            remember(self.name)
        return verdict

    def hint(self) -> Verdict:
        """Return a hint; called again, the next one."""
        number = min(self._shown, len(self._hints) - 1)
        self._shown += 1
        return Verdict(NOTE, f"hint {number + 1} of {len(self._hints)}: {self._hints[number]}")

    def solution(self) -> Verdict:
        """Return a solution, as it is in the solved notebook."""
        return _Code(NOTE, read_solutions()[self.name])

    def __repr__(self) -> str:
        return f"exercise {self.name}: .check(...), .hint(), .solution()"


class _Code(Verdict):
    """Return code to be read."""

    def _repr_html_(self) -> str:
        return f"<pre style='border-left:4px solid {COLOURS[NOTE]};padding:.3em .8em'>{html.escape(self.words)}</pre>"


def is_missing(answer: Any) -> bool:
    """Return whether this is the placeholder of an exercise that has not been answered."""
    if answer is None or answer is ...:
        return True
    if isinstance(answer, dict | list | tuple) and answer:
        return any(is_missing(part) for part in (answer.values() if isinstance(answer, dict) else answer))
    code = getattr(answer, "__code__", None)
    if code is None:
        return False
    steps = list(dis.get_instructions(code))
    return {step.opname for step in steps} <= _DOES_NOTHING and code.co_consts[-1] in (None, ...)


@cache
def read_solutions() -> dict[str, str]:
    """Return the solutions by the name of their exercise, as collected from the solved notebooks."""
    found = json.loads(files("durable.lab.course").joinpath("solutions.json").read_text(encoding="utf-8"))
    return {name: "\n".join(lines) for name, lines in found.items()}
