"""The command line as real processes: run to their end, or read from and interrupted while they run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.patience import patient

PROGRAM = [sys.executable, "-m", "durable"]
COMMAND_SECONDS = patient(30)
READ_SECONDS = patient(60)  # to one line of it


def durable(*words, code=0, **options):
    """Run a command to its end and return it; its exit code is as expected."""
    done = subprocess.run(
        [*PROGRAM, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
        stdin=subprocess.DEVNULL,
        **options,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def in_shell(command, folder, columns=80):
    """Run a line of a shell in a folder, with this environment's programs, and return it whatever its exit code."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "COLUMNS": str(columns)}
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * COMMAND_SECONDS,
    )


def error_of(*words):
    """The one line on stderr of a command that is wrong use."""
    done = durable(*words, code=2)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def hear_ctrl_c():
    """As a job in the foreground does. One in the background, as the tests may be, ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Running:
    """A command that is still running, whose lines are read as they come."""

    def __init__(self, *words, **options):
        self.process = subprocess.Popen(
            [*PROGRAM, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_ctrl_c,  # noqa: PLW1509 - it takes no lock
            **{"stdin": subprocess.DEVNULL} | options,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def read_until(self, text):
        """The lines up to the one that holds the text. A command that does not say it in time is killed."""
        lines = []
        killer = threading.Timer(READ_SECONDS, self.process.kill)
        killer.start()
        try:
            for line in self.process.stdout:
                lines.append(line)
                if text in line:
                    return "".join(lines)
        finally:
            killer.cancel()
        raise AssertionError(f"{text!r} never came: {''.join(lines)}{self.process.stderr.read()}")

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def end(self, code):
        """The rest of what it says, once it has ended as expected."""
        out, err = self.process.communicate(timeout=COMMAND_SECONDS)
        assert self.process.returncode == code, out + err
        return out + err


def open_gate(gate):
    gate.write_text("go")  # returns once a reader is there


def table(workflow_id, *options):
    return json.loads(durable("steps", workflow_id, "--json", *options).stdout)


def statuses(workflow_id):
    return [(step["step_key"], step["status"], step["zombie"]) for step in table(workflow_id)]
