"""A Jupyter kernel for the tests, and the front end that talks to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client import BlockingKernelClient, KernelManager

from tests.support.patience import patient


class Cell:
    """What became of a cell: its texts and the error that it ended in."""

    def __init__(self) -> None:
        self.text = ""
        self.error: str | None = None
        self.prompts: list[str] = []


class Kernel:
    """A kernel, and the front end that talks to it."""

    def __init__(self, folder: Path) -> None:
        self.manager = KernelManager(kernel_name="python3")
        environment = os.environ | {
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_PATH": f"{sys.prefix}/share/jupyter",
        }
        self.manager.start_kernel(
            cwd=str(folder),
            env=environment,
            extra_arguments=["--HistoryManager.enabled=False"],
            stderr=subprocess.DEVNULL,
        )
        self.client: BlockingKernelClient = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=patient(60))
        # ipykernel 7 cancels a cell that awaits, also a plain sleep, only when its event loop next wakes: this wakes it
        self.waker: BlockingKernelClient = self.manager.blocking_client()
        self.waker.start_channels(shell=True, iopub=False, stdin=False, hb=False, control=False)
        self.waker.kernel_info(reply=True, timeout=patient(60))

    def shut_down(self) -> None:
        self.waker.stop_channels()
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(
        self, code: str, *, answers: list[str] | None = None, on_text: Callable[[str], object] = lambda _: None
    ) -> Cell:
        """Run a cell. `answers` are typed at its prompts, one each; `on_text` is told all that it has printed."""
        cell, to_type = Cell(), list(answers or [])

        def see(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                cell.text += content["text"]
                on_text(cell.text)
            elif message["msg_type"] == "execute_result":
                cell.text += content["data"]["text/plain"]
            elif message["msg_type"] == "error":
                cell.error = content["ename"]
                cell.text += "\n".join(content["traceback"])

        def answer(message: dict[str, Any]) -> None:
            cell.prompts.append(message["content"]["prompt"])
            self.client.input(to_type.pop(0) if to_type else "q")

        self.client.execute_interactive(
            code, store_history=False, allow_stdin=True, output_hook=see, stdin_hook=answer, timeout=patient(60)
        )
        return cell

    def value(self, code: str) -> str:
        """The repr of an expression."""
        cell = self.run(f"print(repr({code}), end='')")
        assert cell.error is None, cell.text
        return cell.text
