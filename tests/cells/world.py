"""The world outside of a notebook: effects are lines in a file. A life is killed after one of them, or in a save."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

settings: dict[str, Any] = {"effects": None, "kill_after": None, "delay": 0.0}
_lock = threading.Lock()


def effect(label: str) -> str:
    """Have an effect; the process may be killed right after it, or a little later."""
    with _lock:
        path = Path(settings["effects"])
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{label}\n")
        if settings["kill_after"] is not None:
            settings["kill_after"] -= 1
            if settings["kill_after"] < 0:
                settings["kill_after"] = None
                kill_in(settings["delay"])
    return label.upper()


def kill_in(seconds: float) -> None:
    """Kill this process after so many seconds, from another thread."""
    if seconds <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()
