"""Magics: `%durable` and `%%durable`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, magics_class

from durable.cells.errors import CellError
from durable.cells.notebook import Notebook, find_path
from durable.cells.status import status

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

USAGE = (
    "expected %%durable NAME [--pickle a,b] [--drop a,b] [--retry] at the top of a cell, or one of %durable, "
    "%durable file PATH, %durable forget NAME, %durable off"
)


@magics_class
class DurableMagics(Magics):
    """The magics of one kernel."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._notebook: Notebook | None = None
        self._is_off = False

    @line_cell_magic
    def durable(self, line: str, cell: str | None = None) -> None:
        """Keep what a cell makes, and bring it back after the death of the kernel.

            %%durable NAME [--pickle a,b] [--drop a,b] [--retry]
        at the top of a cell makes it durable. --pickle keeps variables that have no exact form by pickle, --drop leaves
        some out, --retry runs a cell again that has ended its kernel three times.

            %durable file PATH      choose the file
            %durable                show the cells
            %durable forget NAME    delete what is recorded of a cell
            %durable off            run durable cells as ordinary ones from now on
        """
        words = shlex.split(line)
        if cell is not None:
            self._run(words, cell, f"%%durable {line}\n{cell}")
        elif not words:
            print(status(self._open()))  # noqa: T201 - it is what was asked for
        else:
            self._manage(words)

    def _manage(self, words: list[str]) -> None:
        match words:
            case ["file", path]:
                self._choose(Path(path))
            case ["forget", name]:
                self._open().forget(name)
            case ["off"]:
                self._is_off = True
                self._close()
            case _:
                raise CellError(f"%durable {' '.join(words)}: {USAGE}")

    def _run(self, words: list[str], cell: str, raw: str) -> None:
        shell: Any = self.shell
        name, options = _read_options(words)
        if self._is_off:
            shell.run_cell(cell).raise_error()
            return
        self._open().run(
            name,
            shell.transform_cell(cell),
            raw,
            frozenset(options["--pickle"]),
            frozenset(options["--drop"]),
            retry="--retry" in words,
        )

    def _open(self) -> Notebook:
        if self._notebook is None:
            assert self.shell is not None
            path = find_path(self.shell)
            if path is None:
                raise CellError(
                    "the kernel does not know the name of its notebook; choose a file first: "
                    "%durable file analysis.durable.db"
                )
            self._choose(path)
        assert self._notebook is not None
        return self._notebook

    def _choose(self, path: Path) -> None:
        assert self.shell is not None
        path = path.expanduser().resolve()
        if self._notebook is None or self._notebook.path != path:
            self._close()
            self._notebook = Notebook(path, self.shell)
        self._is_off = False

    def _close(self) -> None:
        if self._notebook is not None:
            self._notebook.close()
            self._notebook = None


def _read_options(words: list[str]) -> tuple[str, dict[str, list[str]]]:
    options: dict[str, list[str]] = {"--pickle": [], "--drop": []}
    names = []
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in options:
            options[option] += (value if equals else next(rest, "")).split(",")
        elif word != "--retry":
            names.append(word)
    if len(names) != 1 or names[0].startswith("-") or "" in options["--pickle"] + options["--drop"]:
        raise CellError(f"%%durable {' '.join(words)}: {USAGE}")
    return names[0], options
