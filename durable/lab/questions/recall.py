"""Recall: three questions at the end of a notebook. Each shows its answer as soon as one is chosen."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from IPython.display import display

from durable.lab.questions.prediction import RECALL, Prediction
from durable.progress.record import RECALL as TASK
from durable.progress.record import remember


class Recall:
    """The questions of one notebook, to be answered without looking. It is remembered when all are answered."""

    def __init__(self, notebook: str) -> None:
        self._notebook = notebook
        self.questions: list[Prediction] = []
        for asked in read_questions()[notebook]:
            options, because = asked["options"], asked["because"]
            question = Prediction(kind=RECALL, question=asked["question"], options=options, because=because)
            question.find(options[asked["answer"]])
            question.observe(self._note, "answer")
            self.questions.append(question)

    def _note(self, _: object) -> None:
        if all(question.answer for question in self.questions):
            remember(f"{self._notebook}.{TASK}")

    def _ipython_display_(self) -> None:
        display(*self.questions)  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.questions))


def recall(notebook: str) -> Recall:
    """Ask the three questions of a notebook, by its number, as in "01". Make this a cell's last line.

    Raises KeyError for a notebook without questions.
    """
    return Recall(notebook)


@cache
def read_questions() -> dict[str, list[dict[str, Any]]]:
    """Return the questions by the number of their notebook."""
    return tomllib.loads(files("durable.lab.course").joinpath("recall.toml").read_text(encoding="utf-8"))
