"""The dashboard as a widget: a thread of the kernel looks at the database, and the page draws what it finds."""

from __future__ import annotations

import os
import threading
from typing import Any

import anywidget
import msgspec
import traitlets

from durable.dashboard.actions import Order, perform
from durable.dashboard.drawn.page import script, style
from durable.dashboard.snapshot import Question, read_question, take
from durable.dashboard.source import Source, is_url, open_source
from durable.dashboard.watch import Watch
from durable.engine import Engine
from durable.errors import NotSupportedError

ACTION = "durable action"  # the name of a thread


class Dashboard(anywidget.AnyWidget):
    """The widget. It looks while a page shows it, from a thread, so it is live while a cell runs a workflow."""

    _esm = script()
    _css = style()
    answer = traitlets.Dict().tag(sync=True)
    said = traitlets.Dict().tag(sync=True)
    allows = traitlets.Bool(False).tag(sync=True)

    def __init__(self, reader: Source, answer: dict[str, Any], *, allow: bool = False) -> None:
        """Take a reader, which it closes, and the first answer. Nothing here fails, since Python would close a half."""
        self._reader = reader
        self._watch = Watch(self._reader, self._show)
        self._engine: Engine | None = None
        self._path = reader.path or ""
        self._lock = threading.Lock()  # held while the engine is used
        super().__init__(answer=answer, allows=allow)
        self.on_msg(lambda _, message, __: self.handle(message))

    def handle(self, message: dict[str, Any]) -> None:
        """Handle a message of the page: a question, an action, or that it shows the dashboard no longer."""
        if "ask" in message:
            self._watch.ask(read_question(message["ask"]))
        elif "act" in message and self.allows:
            order = msgspec.convert(message["act"], Order)
            threading.Thread(target=self._act, args=(order,), name=ACTION, daemon=True).start()  # it may wait
        elif "rest" in message:
            self._watch.rest()

    def close(self) -> None:
        """End the watch. A workflow that was resumed here runs on."""
        super().close()
        self._watch.close()
        self._reader.close()

    def _show(self, answer: dict[str, Any]) -> None:
        self.answer = answer

    def _act(self, order: Order) -> None:
        try:
            with self._lock:
                self._engine = self._engine or Engine(self._path)
                text, is_done = perform(self._engine, order), True
        except Exception as error:  # a function that cannot be imported may raise anything
            text, is_done = f"{type(error).__name__}: {error}", False
        number = self.said.get("number", 0) + 1  # so that the same words twice are news
        self.said = {"number": number, "workflow_id": order.workflow_id, "text": text, "is_done": is_done}

    def __repr__(self) -> str:
        counts = self.answer.get("counts", {})
        told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        return f"dashboard of {self._reader.name}: {told or 'no workflows'}; run this cell to see it"


def dashboard(db: str | os.PathLike[str] = "workflow.db", *, allow: bool = False) -> Dashboard:
    """Show all workflows of a database, live: counts, filters, and each workflow with all its records.

    It only reads, and slows no workflow down that runs meanwhile: a look takes at most a hundredth of the time. With
    `allow`, it also offers to resume, retry, cancel, rewind and fork a workflow and to send it a message, and says what
    each of these does; a workflow that is resumed runs in this kernel. `db` is a file, or the URL of a PostgreSQL, of
    which it shows no messages and runs. Raises StoreError, CorruptionError or SchemaVersionError for a file
    that is missing or cannot be read, ValueError for another URL, NotSupportedError for `allow` with a URL.
    """
    if allow and is_url(db):
        raise NotSupportedError(
            "a dashboard of PostgreSQL only reads: its workers run the workflows; use durable send and durable submit",
            operation="dashboard with allow",
        )
    reader = open_source(db)
    return Dashboard(reader, take(reader, Question()), allow=allow)
