"""A prediction: asked before the answer can be seen, and revealed once the answer is there and a choice was made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython.core.getipython import get_ipython
from IPython.display import display

from durable.lab.questions.checks import NOTE, RIGHT, Verdict

_HERE = Path(__file__).parent
PREDICT, RECALL = "Predict", "Recall"
PANEL_RAN = "panel.ran"
"""The answer that a panel on the same page gives: how many steps ran in the run that followed a crash."""

_open: dict[str, Prediction] = {}  # by the variable that will hold the answer


class Prediction(anywidget.AnyWidget):
    """A question with a few answers to choose from. Its JavaScript outlives the kernel, as the panel's does."""

    _esm = _HERE / "prediction.js"
    _css = _HERE / "prediction.css"
    kind = traitlets.Unicode(PREDICT).tag(sync=True)
    question = traitlets.Unicode().tag(sync=True)
    options = traitlets.List(traitlets.Unicode()).tag(sync=True)
    of = traitlets.Unicode("").tag(sync=True)
    because = traitlets.Unicode("").tag(sync=True)  # shown beside the answer
    chosen = traitlets.Unicode("").tag(sync=True)
    answer = traitlets.Unicode("").tag(sync=True)
    is_found = traitlets.Bool(False).tag(sync=True)  # the answer is there; it is shown once there is a choice

    def reveal(self, answer: object) -> Verdict:
        """Compare the prediction with the answer. Raises ValueError for an answer that was not among the options."""
        self.answer = self._check(answer)
        if not self.chosen:
            return Verdict(NOTE, f"the answer is: {self.answer} (no prediction was chosen above)")
        if self.chosen == self.answer:
            return Verdict(RIGHT, f"you said: {self.answer}; and so it is")
        return Verdict(NOTE, f"you said: {self.chosen}; the answer is: {self.answer}. Read on to see why.")

    def find(self, answer: object) -> Verdict | None:
        """Reveal the answer if a choice was made; else keep it, reveal it with the choice, and return None.

        Raises ValueError for an answer that was not among the options.
        """
        found = self._check(answer)
        if self.chosen:
            return self.reveal(found)
        self.is_found = True
        self.observe(lambda _: self.reveal(found), "chosen")
        return None

    def _check(self, answer: object) -> str:
        found = str(answer)
        if found not in self.options:
            raise ValueError(f"prediction {self.question!r}: the answer {found!r} is none of {self.options}")
        return found

    def __repr__(self) -> str:
        return f"{self.kind}: {self.question}\n" + "\n".join(f"  ( ) {option}" for option in self.options)


def predict(question: str, options: Sequence[object], *, of: str | None = None) -> Prediction:
    """Ask for a prediction; make this a cell's last line.

    `of` names a variable that a later cell binds to the answer. The variable is forgotten now. Once a cell has bound
    it and a choice was made, the answer is shown, whichever comes last. `panel.ran` is the answer of the panel on the
    same page. Without `of`, call `reveal(answer)`.
    """
    prediction = Prediction(question=question, options=[str(option) for option in options], of=of or "")
    shell = get_ipython()
    if of is not None and of != PANEL_RAN and shell is not None:
        shell.user_ns.pop(of, None)
        _open[of] = prediction
        shell.events.register("post_run_cell", _look_for_answers)
    return prediction


def _look_for_answers(result: Any) -> None:
    """Find the answers that the cell has computed. IPython calls it after each cell."""
    shell = get_ipython()
    if shell is None or not result.success:
        return
    for name in [name for name in _open if name in shell.user_ns]:
        verdict = _open.pop(name).find(shell.user_ns[name])
        if verdict is not None:
            display(verdict)  # type: ignore[no-untyped-call]
