"""Output: what a cell shows, recorded as it comes, and shown again as the same mime bundles."""

from __future__ import annotations

import base64
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

Event = dict[str, Any]
"""One piece of output: a stream with its text, or data by mime type."""
WIDGET = "application/vnd.jupyter.widget-view+json"


class Recorder:
    """The output of one cell. While it is silent it records, and shows nothing."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell, self._lock = shell, threading.RLock()
        self._before: list[Event] = []  # the output of the checkpoint from which the cell went on
        self._new: list[Event] = []  # what came since the last checkpoint
        self.is_silent = False
        self._is_inner = False  # whether what comes now is part of what was recorded already

    def take(self) -> list[Event]:
        """Return what came since the last checkpoint; it is a checkpoint's from now on."""
        with self._lock:
            taken, self._new = joined(self._new), []
            self._before += taken
            return taken

    def go_back_to(self, events: list[Event], *, shows: bool) -> None:
        """Forget what came, for that of a checkpoint; if it `shows`, show that, and all that comes."""
        with self._lock:
            self._before, self._new = list(events), []
            if shows:
                self.show()

    def show(self) -> None:
        """Show what is recorded, and from now on all that comes."""
        with self._lock:
            self.is_silent = False
            self._within(lambda: replay(self._shell, self.all()))

    def all(self) -> list[Event]:
        """Return the whole output, each piece once."""
        return joined([*self._before, *self._new])

    def _note(self, event: Event, show: Callable[[], object]) -> None:
        with self._lock:
            if not self._is_inner:
                self._new.append(event)
            if not self.is_silent:
                self._within(show)

    def _within(self, call: Callable[[], object]) -> None:
        """Call what shows something, and record nothing of that."""
        with self._lock:
            was_inner, self._is_inner = self._is_inner, True
            try:
                call()
            finally:
                self._is_inner = was_inner

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """A block whose output is recorded."""
        shell, streams = self._shell, (sys.stdout, sys.stderr)
        publisher: Any = shell.display_pub
        hook: Any = shell.displayhook
        publish, clear, write = publisher.publish, publisher.clear_output, hook.write_format_data
        prompt, finish = hook.write_output_prompt, hook.finish_displayhook

        def on_publish(data: Any, metadata: Any = None, **options: Any) -> None:
            transient, update = options.get("transient") or {}, bool(options.get("update", False))
            event = {"type": "display", "data": _as_text(data), "metadata": metadata or {}}
            event |= {"transient": dict(transient), "update": update}
            self._note(event, lambda: publish(data, metadata, **options))

        def on_clear(wait: bool = False) -> None:
            self._note({"type": "clear", "wait": bool(wait)}, lambda: clear(wait))

        def on_result(data: Any, metadata: Any = None) -> None:
            event = {"type": "result", "data": _as_text(data), "metadata": metadata or {}}
            self._note(event, lambda: write(data, metadata))

        sys.stdout, sys.stderr = _Tee("stdout", streams[0], self), _Tee("stderr", streams[1], self)
        publisher.publish, publisher.clear_output, hook.write_format_data = on_publish, on_clear, on_result
        hook.write_output_prompt = lambda: self._within(prompt)
        hook.finish_displayhook = lambda: self._within(finish)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams
            del publisher.publish, publisher.clear_output
            del hook.write_format_data, hook.write_output_prompt, hook.finish_displayhook


class _Tee:
    """A stream that is recorded, and goes on to where it went."""

    def __init__(self, name: str, stream: Any, recorder: Recorder) -> None:
        self._name, self._stream, self._recorder = name, stream, recorder

    def write(self, text: str) -> int:
        """Write some text."""
        self._recorder._note({"type": self._name, "text": text}, lambda: self._stream.write(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def flush_figures() -> None:
    """Show the figures of pyplot that the cell has drawn, as the end of a cell does."""
    backend = sys.modules.get("matplotlib_inline.backend_inline")
    if backend is not None:
        backend.flush_figures()


def replay(shell: InteractiveShell, events: list[Event]) -> None:
    """Show output once more."""
    for event in events:
        kind = event["type"]
        if kind in ("stdout", "stderr"):
            getattr(sys, kind).write(event["text"])
        elif kind == "clear":
            shell.display_pub.clear_output(event["wait"])  # type: ignore[no-untyped-call]
        elif kind == "display":
            data, metadata = event["data"], event["metadata"]
            shell.display_pub.publish(data, metadata, transient=event["transient"], update=event["update"])
        else:
            _show_result(shell, event["data"], event["metadata"])
    sys.stdout.flush()


def _show_result(shell: InteractiveShell, data: dict[str, Any], metadata: dict[str, Any]) -> None:
    hook: Any = shell.displayhook
    hook.start_displayhook()
    hook.write_output_prompt()
    hook.write_format_data(data, metadata)
    hook.finish_displayhook()


def joined(events: list[Event]) -> list[Event]:
    """Return the output with texts in one, and without what was replaced or cleared."""
    joined: list[Event] = []
    clears = False
    for event in events:
        kind = event["type"]
        if kind == "clear":
            if event["wait"]:
                clears = True
            else:
                joined = []
            continue
        if clears:
            joined, clears = [], False
        if kind in ("stdout", "stderr") and joined and joined[-1]["type"] == kind:
            joined[-1] = {"type": kind, "text": joined[-1]["text"] + event["text"]}
        elif kind == "display" and event["update"] and _replace(joined, event):
            continue
        else:
            joined.append(event)
    return [_at_rest(event) for event in joined]


def _replace(joined: list[Event], event: Event) -> bool:
    shown = event["transient"].get("display_id")
    found = [old for old in joined if old["type"] == "display" and old["transient"].get("display_id") == shown]
    for old in found:
        old.update(data=event["data"], metadata=event["metadata"])
    return bool(found)


def _at_rest(event: Event) -> Event:
    """Return a piece as it stands at last: a progress bar in its last state, a widget as its text."""
    if "text" in event:
        lines = event["text"].split("\n")
        return {**event, "text": "\n".join(line.rpartition("\r")[2] if line[-1:] != "\r" else line for line in lines)}
    if WIDGET in event["data"]:
        text = event["data"].get("text/plain", "widget")
        return {**event, "data": {"text/plain": f"{text} (a widget, not live)"}}
    return event


def _as_text(data: dict[str, Any]) -> dict[str, Any]:
    """Return a mime bundle as JSON has it."""
    return {kind: base64.b64encode(held).decode() if isinstance(held, bytes) else held for kind, held in data.items()}
