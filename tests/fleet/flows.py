"""The workflow of the kill test: four steps, each of which says in a file what it does to the world, and when.

With DURABLE_BREAK a worker breaks one rule, so that the kill test can be seen to notice.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from durable import Context, current_step
from durable.on_dbos.recovery.presence import Presence
from durable.replay.frame import UNKNOWN, Frame
from durable.replay.keys import Scope


def have_effect(what: str, seconds: float) -> None:
    """A line of its own, written at once, and then the time that it takes."""
    step = current_step()
    line = f"{time.time():.6f}\t{os.getpid()}\t{what}\t{step.idempotency_key}\t{step.attempt}\n"
    log = os.open(os.environ["FLEET_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, line.encode())
    os.close(log)
    threading.Event().wait(seconds)


def create_record(name: str, seconds: float) -> str:
    have_effect("create_record", seconds)
    return f"record of {name}"


def provision_laptop(record: str, seconds: float) -> str:
    have_effect("provision_laptop", seconds)
    return f"laptop for the {record}"


def setup_access(record: str, seconds: float) -> str:
    have_effect("setup_access", seconds / 2)
    return f"access for the {record}"


def send_welcome(laptop: str, access: str, seconds: float) -> str:
    have_effect("send_welcome", seconds)
    return f"{laptop}, {access}"


STEPS = {"create_record", "provision_laptop", "setup_access", "send_welcome"}


def onboarding(ctx: Context, name: str, seconds: float) -> str:
    record = ctx.step(create_record, name, seconds)
    laptop = ctx.submit(provision_laptop, record, seconds)
    access = ctx.submit(setup_access, record, seconds)
    return ctx.step(send_welcome, laptop.result(), access.result(), seconds)


# ---- rules that a worker may break


def _keys_by_chance() -> None:
    draw = Scope.draw

    def draw_by_chance(self: Scope, name: str) -> tuple[str, int]:
        return f"{name}_{random.randrange(1, 1000)}", draw(self, name)[1]

    Scope.draw = draw_by_chance  # type: ignore[method-assign]
    Frame.recall = lambda self, *_: UNKNOWN  # type: ignore[method-assign] # the fast path past it


def _take_over_without_a_lock() -> None:
    @contextmanager
    def claim(self: Presence, executor_id: str) -> Iterator[bool]:
        yield True

    Presence.claim = claim  # type: ignore[method-assign, assignment]


BROKEN = {"keys": _keys_by_chance, "locks": _take_over_without_a_lock}

if (rule := os.environ.get("DURABLE_BREAK")) is not None:
    BROKEN[rule]()
