"""Bars: the progress of a workflow below a cell, live. They are plain HTML, so they stay without a kernel.

They are no bars of tqdm: that counts the turns of a loop of its own process, while these show rows of another. Steps
come and go, a retry begins anew, and a crash leaves a bar as it was.
"""

from __future__ import annotations

import html
import os
import time
from collections.abc import Sequence
from contextlib import closing

from IPython.display import display

from durable.dashboard.source import open_source
from durable.store.records import ProgressRecord

LOOK_SECONDS = 0.2


class Bars:
    """The progress of one workflow at an instant."""

    def __init__(self, workflow_id: str, state: str, found: Sequence[ProgressRecord]) -> None:
        self._head, self._found = f"{workflow_id}: {state}", found

    def _repr_html_(self) -> str:
        lines = "".join(f"<tr>{_row(each)}</tr>" for each in self._found)
        return f"<div>{html.escape(self._head)}</div><table>{lines}</table>"

    def __repr__(self) -> str:
        return "\n".join([self._head, *(f"  {each.step_key}: {each.text}" for each in self._found)])


def _row(each: ProgressRecord) -> str:
    key, text = html.escape(each.step_key), html.escape(each.text)
    bar = "" if each.share is None else f'<progress max="1" value="{each.share:.3f}" aria-label="{key}"></progress>'
    return f'<td style="text-align: left">{key}</td><td>{bar}</td><td style="text-align: left">{text}</td>'


def progress(db: str | os.PathLike[str], workflow_id: str) -> None:
    """Draw a bar for each running step that publishes its progress and for each map, until the workflow runs no more.

    `db` is a file, or the URL of a PostgreSQL. The cell goes on once the workflow has ended, or its process has died;
    Ctrl+C ends the drawing alone. A step shows its progress with `current_step().publish("rows", 40, total=100)`.
    Raises WorkflowNotFoundError, and StoreError, CorruptionError or SchemaVersionError for a file that cannot be read.
    """
    with closing(open_source(db)) as reader:
        shown = None
        while True:
            record = reader.workflow(workflow_id)
            state = reader.state(record)
            bars = Bars(workflow_id, state, reader.progress(workflow_id))
            if shown is None:
                shown = display(bars, display_id=True)  # type: ignore[no-untyped-call]
            else:
                shown.update(bars)
            if state not in ("running", "suspended", "queued") or shown is None:
                return
            try:
                time.sleep(LOOK_SECONDS)
            except KeyboardInterrupt:
                return
