"""Watch: a thread that looks at a database and reports what has changed, while it is asked to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from durable.dashboard.snapshot import LOOK_SECONDS, Question, take
from durable.dashboard.source import Source

_PASSING = ("at", "pause")  # parts of an answer that differ although nothing has changed


class Watch:
    """Answers one question at a time: at once, and again whenever the answer has changed, until it is to rest.

    `on_answer` is called in the thread of the watch. A database that cannot be read is an answer with a `problem`. The
    looks take at most a hundredth of the time, see `take`.
    """

    def __init__(self, reader: Source, on_answer: Callable[[dict[str, Any]], None]) -> None:
        self._reader, self._on_answer = reader, on_answer
        self._changed = threading.Condition()
        self._question: Question | None = None
        self._number = 0  # counts questions and rests
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def ask(self, question: Question) -> None:
        """Answer this question from now on."""
        self._turn_to(question)

    def rest(self) -> None:
        """Look no more until there is a question."""
        self._turn_to(None)

    def close(self) -> None:
        """End the thread. May be called twice, and by the thread itself."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _turn_to(self, question: Question | None) -> None:
        with self._changed:
            self._question, self._number = question, self._number + 1
            self._changed.notify_all()
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="durable dashboard", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        told: Any = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._question is not None)
                if self._is_closed or self._question is None:
                    return
                question, number = self._question, self._number
            answer = self._look(question)
            news = number, {name: value for name, value in answer.items() if name not in _PASSING}
            if news != told:
                told = news
                self._on_answer(answer)
            with self._changed:
                self._changed.wait_for(partial(self._is_past, number), answer.get("pause", LOOK_SECONDS))

    def _is_past(self, number: int) -> bool:
        """Return whether this question is no longer the one to answer."""
        return self._is_closed or self._number != number

    def _look(self, question: Question) -> dict[str, Any]:
        try:
            return take(self._reader, question)
        except Exception as error:  # the driver of a database has errors of its own
            return {"problem": str(error)}
