"""The panel: a workflow to step through, crash and resume. It shows the controller's state, and has no logic."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from durable.dashboard.drawn import LOOK, module_of
from durable.lab.panel.controller import Controller
from durable.lab.panel.imports import collect_imports, import_again

_HERE = Path(__file__).parent


class Panel(anywidget.AnyWidget):
    """The widget. Its JavaScript outlives the kernel, and says what became of it."""

    _esm = module_of(_HERE / "panel.js")
    _css = LOOK
    state = traitlets.Dict().tag(sync=True)
    imports = traitlets.Unicode().tag(sync=True)  # those of this kernel; the page offers them to the next one
    import_problem = traitlets.Unicode().tag(sync=True)

    def __init__(self, workflow: Callable[..., Any], workflow_id: str, **options: Any) -> None:
        super().__init__()
        self.controller = Controller(workflow, workflow_id, on_change=self._show, **options)
        self.imports = collect_imports()
        self.on_msg(lambda _, message, __: self._handle(message))
        self.controller.open()

    def _handle(self, message: Mapping[str, Any]) -> None:
        if message.get("do") != "import":
            self.controller.handle(message)
            return
        try:
            import_again(message["code"])
        except Exception as error:
            self.import_problem = f"{type(error).__name__}: {error}"
        else:
            self.imports, self.import_problem = message["code"], ""

    def _show(self, state: dict[str, Any]) -> None:
        self.state = state

    def __repr__(self) -> str:
        state = self.state
        return f"panel of {state['workflow']} {state['workflow_id']!r} in {state['database']}: run this cell to see it"


def panel(
    workflow: Callable[..., Any], workflow_id: str, *, db: str | os.PathLike[str] = "workflow.db", **kwargs: Any
) -> Panel:
    """Show a panel for one workflow, with its keyword arguments: step it, run it, crash it, resume it.

    This call is the whole cell, with the imports that it needs: after a crash the variables of other cells are gone.
    Running the cell again is the resume. Raises what `Engine(db)` raises.
    """
    return Panel(workflow, workflow_id, db=db, kwargs=kwargs)
