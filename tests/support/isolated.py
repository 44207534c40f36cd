"""Steps that run in a process of their own, and what they tell of it. Light to import, since each of them does it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from durable import Context, Retry, current_step, step


def leave_word(folder: Path | str, *words: object) -> None:
    """Tell in a file, whole or not at all, which processes there are."""
    path = Path(folder, f"word of {os.getpid()}")
    path.with_suffix(".tmp").write_text(" ".join(map(str, words)))
    path.with_suffix(".tmp").rename(path)


def words(folder: Path) -> list[list[str]]:
    """What they have told."""
    return [path.read_text().split() for path in folder.glob("word of *") if path.suffix != ".tmp"]


def hang() -> None:
    """For longer than any test."""
    time.sleep(600)


@dataclass
class Account:
    name: str
    cents: int = 0

    @step(isolate=True)
    def pay(self, cents: int) -> Account:
        return Account(self.name, self.cents + cents)


class OverdrawnError(Exception):
    def __init__(self, account: str, cents: int) -> None:
        super().__init__(account, cents)
        self.account, self.cents = account, cents


@step(isolate=True)
def look_around(word: str) -> tuple[str, int, str, int]:
    """The word, the process, its step, the try."""
    info = current_step()
    return word, os.getpid(), info.idempotency_key, info.attempt


@step(isolate=True)
async def look_around_later(word: str) -> tuple[str, int, str, int]:
    await asyncio.sleep(0)
    return look_around(word)


@step(isolate=True)
def overdraw(account: str, cents: int) -> str:
    error = OverdrawnError(account, cents)
    error.add_note("seen in another process")
    raise error


@step(isolate=True)
def fail_strangely() -> str:
    error = ValueError("it holds a lock")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


class PickyError(Exception):
    """Can be pickled, and not made again from that."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


@step(isolate=True)
def fail_pickily() -> str:
    raise PickyError("it is", "picky")


@step(isolate=True, retry=Retry(attempts=2, delay_seconds=0))
def die_once(how: str, number: int) -> str:
    """By itself, at the first try."""
    if current_step().attempt == 1:
        die(how, number)
    return "alive"


@step(isolate=True)
def die(how: str, number: int) -> str:
    if how == "exit":
        sys.exit(number)
    if how == "at once":
        os._exit(number)
    os.kill(os.getpid(), number)
    return "alive"


@step(isolate=True)
def leave_a_child_behind_and_die(folder: str) -> str:
    """The child holds copies of all that its parent had open."""
    if os.fork() == 0:
        leave_word(folder, os.getpid())
        hang()
    os._exit(3)


def start_and_hang(folder: str) -> str:
    """With a process of its own, which does not end by itself either."""
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    leave_word(folder, os.getpid(), started.pid)
    hang()
    return "never"


start_and_hang_isolated = step(isolate=True)(start_and_hang)


@step(isolate=True, timeout_seconds=3.0)
def start_and_hang_too_long(folder: str) -> str:
    return start_and_hang(folder)


@step(isolate=True)
def return_a_lock() -> object:
    return threading.Lock()


@step(isolate=True)
def take(_: object) -> str:
    return "taken"


@step(isolate=True)
def add(left: int, right: int) -> int:
    return left + right


def hang_here(ctx: Context, folder: str) -> str:
    """A workflow whose step hangs in the main thread."""
    return ctx.step(start_and_hang_isolated, folder)


def hang_beside(ctx: Context, folder: str) -> str:
    """A workflow whose step hangs in a worker."""
    return ctx.submit(start_and_hang_isolated, folder).result()


async def hang_async(ctx: Context, folder: str) -> str:
    """An async workflow whose step hangs in a worker."""
    return await ctx.submit(start_and_hang_isolated, folder)


SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGSEGV": signal.SIGSEGV}
