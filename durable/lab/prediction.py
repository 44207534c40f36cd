"""A prediction: asked before the answer can be seen, and compared with it afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

from durable.lab.checks import NOTE, RIGHT, Verdict

_HERE = Path(__file__).parent


class Prediction(anywidget.AnyWidget):
    """A question with a few answers to choose from. Its JavaScript outlives the kernel, as the panel's does."""

    _esm = _HERE / "prediction.js"
    _css = _HERE / "prediction.css"
    question = traitlets.Unicode().tag(sync=True)
    options = traitlets.List(traitlets.Unicode()).tag(sync=True)
    chosen = traitlets.Unicode("").tag(sync=True)
    answer = traitlets.Unicode("").tag(sync=True)

    def reveal(self, answer: object) -> Verdict:
        """Compare the prediction with the answer. Raises ValueError for an answer that was not among the options."""
        found = str(answer)
        if found not in self.options:
            raise ValueError(f"prediction {self.question!r}: the answer {found!r} is none of {self.options}")
        self.answer = found
        if not self.chosen:
            return Verdict(NOTE, f"the answer is: {found} (no prediction was chosen above)")
        if self.chosen == found:
            return Verdict(RIGHT, f"you said: {found}; and so it is")
        return Verdict(NOTE, f"you said: {self.chosen}; the answer is: {found}. Read on to see why.")

    def __repr__(self) -> str:
        return f"Predict: {self.question}\n" + "\n".join(f"  ( ) {option}" for option in self.options)


def predict(question: str, options: Sequence[object]) -> Prediction:
    """Ask for a prediction. Make this a cell's last line, and call its `reveal(answer)` once the answer is known."""
    return Prediction(question=question, options=[str(option) for option in options])
