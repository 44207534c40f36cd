"""A Jupyter server of our own for the browser: loopback, a free port, a home that is thrown away."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.patience import PATIENCE_SECONDS, patient

START_SECONDS = patient(60)
THEMES = "jupyterlab/user-settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
NEWS = "jupyterlab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"


@dataclass
class Server:
    """A running server. `front_end` is lab, notebook, voila, or course, which is `durable lab`.

    `folder` is where its notebooks and databases lie.
    """

    front_end: str
    folder: Path
    url: str
    token: str
    process: subprocess.Popen[bytes]
    log: Path
    environment: dict[str, str]

    def page(self, notebook: str) -> str:
        """The address that opens a notebook."""
        if self.front_end == "voila":
            return f"{self.url}/voila/render/{notebook}"
        if self.front_end == "course":
            return f"{self.url}/durable/course?token={self.token}"
        place = "lab/tree" if self.front_end == "lab" else "notebooks"
        return f"{self.url}/{place}/{notebook}?token={self.token}&reset"  # without the tabs of the test before

    def trust(self, notebook: Path) -> None:
        """Sign a notebook, as `durable lab` does with those it ships: else Jupyter asks before a page runs a cell."""
        subprocess.run(
            [sys.executable, "-m", "jupyter", "trust", str(notebook)],
            env=self.environment,
            check=True,
            capture_output=True,
        )

    def stop(self) -> None:
        """End the server and, politely, its kernels."""
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_server(
    front_end: str, home: Path, folder: Path, *, restart_limit: int | None = 1000, theme: str = "JupyterLab Light"
) -> Server:
    """Start JupyterLab (`lab`), Notebook 7 (`notebook`), Voila (`voila`), or `durable lab` (`course`) in a folder.

    A `restart_limit` is told to the panel too, as `durable lab` does; None leaves Jupyter's default. Raises
    RuntimeError with its log where it will not start.
    """
    token, port = secrets.token_hex(16), _find_port()
    log = home / "server.log"
    write_settings(home, NEWS, {"fetchNews": "false", "checkForUpdates": False})
    write_settings(home, THEMES, {"theme": theme})
    arguments = _voila_arguments(port) if front_end == "voila" else _arguments(port, token, folder)
    if front_end == "course":
        arguments.remove(f"--ServerApp.root_dir={folder}")  # its own: the copy of the course
    environment = _environment(home)
    if restart_limit is not None:
        arguments.append(f"--KernelRestarter.restart_limit={restart_limit}")
        environment["DURABLE_RESTART_LIMIT"] = str(restart_limit)
    programs = {"voila": ["voila"], "course": ["durable", "lab"]}
    command = [sys.executable, "-m", *programs.get(front_end, ["jupyter", front_end]), *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
    server = Server(front_end, folder, f"http://127.0.0.1:{port}", token, process, log, environment)
    deadline = time.monotonic() + START_SECONDS
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            server.stop()
            raise RuntimeError(f"{front_end} did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.1)
    return server


def _arguments(port: int, token: str, folder: Path) -> list[str]:
    return [
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder}",
        *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    ]


def _voila_arguments(port: int) -> list[str]:
    return ["--no-browser", "--Voila.ip=127.0.0.1", f"--port={port}", "--VoilaConfiguration.file_allowlist=.*"]


def write_settings(home: Path, name: str, values: dict[str, object]) -> None:
    path = home / "config" / "lab" / name.removeprefix("jupyterlab/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def _environment(home: Path) -> dict[str, str]:
    places = {
        "HOME": "home",
        "IPYTHONDIR": "ipython",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
    }
    return os.environ | {name: str(home / place) for name, place in places.items()}


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
