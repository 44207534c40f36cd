"""`durable lab`: JupyterLab on our notebooks, set up so that a kernel can be killed as often as you like."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import typer

from durable.progress import record
from durable.terminal.output.usage import UsageError, suggest
from durable.terminal.output.versions import INSTALL_LAB

_PACKAGE = Path(__file__).resolve().parent.parent
COURSE_PAGE = "/durable/course"  # see durable/progress/server.py
COURSE = "durable-course"  # the folder of a reader's copies, in the current folder
SETTINGS = _PACKAGE / "lab" / "jupyter"  # Markdown opens as a page; a user's own settings come before these
NEEDED = ("jupyterlab", "ipykernel", "anywidget", "pandas", "matplotlib")

OPTIONS = (
    "--KernelRestarter.restart_limit=1000",  # by default the 6th crash within seconds is final
    "--KernelRestarter.time_to_dead=0.5",  # seconds between two looks at the kernel; by default 3
    "--expose-app-in-browser",  # so that the panel can run its own cell again after the crash
)


def launch(notebook: str, port: int | None, *, browser: bool, further: list[str], folder: str = COURSE) -> int:
    """Start the server on a notebook, wait for its end, return its exit code. Raises UsageError if it cannot start.

    The course is copied to `folder`, and the reader works there: the package and the repository stay as they are.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"the lab needs {', '.join(missing)}; install it with: {install_lab()}")
    shipped = shipped_notebooks()
    path = find_notebook(notebook, shipped)
    opens = f"/lab/tree/{quote(path.name)}"
    if path.is_relative_to(shipped):
        ours = copy_notebooks(shipped, Path(folder))
        path = ours / path.relative_to(shipped)
        trust(sorted(ours.rglob("*.ipynb")))
        os.environ |= {record.FILE: str(ours / "progress.txt"), record.SHIPPED: str(shipped)}
        if path.stem == "README":
            opens = COURSE_PAGE
        typer.echo(f"the course is in {ours}; what you change there stays yours")
    if is_root() and "--allow-root" not in further:
        typer.echo("note: you are root, as in a container: JupyterLab runs as root, and so do the notebooks", err=True)
        further = [*further, "--allow-root"]
    os.environ["DURABLE_RESTART_LIMIT"] = "1000"  # the panel cannot ask the server, and would space its crashes out
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, [str(SETTINGS), os.getenv("JUPYTER_CONFIG_PATH")]))
    typer.echo(f"opening {path}; the address follows; Ctrl+C here ends the server")
    return _run(command(path, opens, port, browser=browser, further=further))


def command(path: Path, opens: str, port: int | None, *, browser: bool, further: Iterable[str] = ()) -> list[str]:
    """Return the command line of a server in the folder of a file, which opens one of its own addresses."""
    return [
        *(sys.executable, "-m", "jupyterlab", *OPTIONS),
        f"--ServerApp.root_dir={path.parent}",
        f"--LabApp.default_url={opens}",  # so the printed address leads there too
        *([f"--ServerApp.port={port}"] if port else []),
        *([] if browser else ["--no-browser"]),
        *further,
    ]


def find_notebook(name: str, ours: Path) -> Path:
    """Return one of our notebooks by its name, with or without the ending, else any file. Raises UsageError."""
    for path in (ours / name, ours / f"{name}.ipynb", Path(name)):
        if path.is_file():
            return path.resolve()
    known = [path.name for path in sorted(ours.glob("*.ipynb"))]
    hint = suggest(name, known) or f"; there is {', '.join(known) or 'none'} in {str(ours)!r}"
    raise UsageError(f"no notebook {name!r}{hint}")


def trust(notebooks: Iterable[Path]) -> None:
    """Sign notebooks as `jupyter trust` does, so that Jupyter shows their outputs and the panel's buttons work."""
    import nbformat
    from nbformat.sign import NotebookNotary

    notary = NotebookNotary()  # type: ignore[no-untyped-call]
    for path in notebooks:
        try:
            notary.sign(nbformat.read(path, as_version=4))  # type: ignore[no-untyped-call]
        except Exception as error:
            typer.echo(f"note: {path.name} could not be trusted ({error}); Jupyter will ask", err=True)


def shipped_notebooks() -> Path:
    """Return the course as it was installed: in the package, or beside it in a checkout."""
    shipped = _PACKAGE / "notebooks"
    return shipped if shipped.is_dir() else _PACKAGE.parent / "notebooks"


def install_lab() -> str:
    """Return the command that installs what the lab needs: into a checkout, or beside an installed wheel."""
    return INSTALL_LAB if (_PACKAGE.parent / "pyproject.toml").is_file() else 'python -m pip install "durable-lab[lab]"'


def is_root() -> bool:
    """Return whether this process runs as root, where Jupyter starts only with `--allow-root`."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def copy_notebooks(shipped: Path, folder: Path) -> Path:
    """Copy the files that are not there yet. Existing ones can hold a reader's work, and stay."""
    for source in shipped.rglob("*"):
        target = folder / source.relative_to(shipped)
        if source.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return folder.resolve()


if sys.platform == "win32":

    def _run(words: list[str]) -> int:
        """Wait for the server, which handles Ctrl+C itself."""
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return subprocess.call(words)
        finally:
            signal.signal(signal.SIGINT, previous)
else:

    def _run(words: list[str]) -> NoReturn:
        """Become the server, so that it handles Ctrl+C and every other signal itself."""
        os.execv(words[0], words)
