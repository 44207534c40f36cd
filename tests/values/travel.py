"""A program that sends each value of the gallery every way that a value can take, dies, and looks at it once more.

python -m tests.values.travel DATABASE        the first run; it ends by SIGKILL
python -m tests.values.travel DATABASE again  the replay, and a fork of each

It prints one line of JSON for each value that is not what it was, and at last how many looks it took.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from durable import Context, Engine
from durable.observer import crash
from tests.support.patience import PATIENCE_SECONDS
from tests.values.gallery import VALUES, look

looks = 0
arrived = threading.Semaphore(0)


def check(name: str, way: str, value: Any, seen: Any) -> None:
    global looks  # noqa: PLW0603
    looks += 1
    if look(value) != look(seen):
        print(msgspec.json.encode([name, way, repr(seen)]).decode(), flush=True)


def travel_of(name: str, annotation: Any, value: Any, is_replay: bool) -> Callable[..., Any]:
    """Return a workflow that gets the value as its argument, of a step, as a message, publishes it and returns it."""

    def make() -> Any:
        if is_replay:
            print(msgspec.json.encode([name, "made again", ""]).decode(), flush=True)
        return value

    def travel(ctx: Context, given: Any) -> Any:
        check(name, "argument", value, given)
        made = ctx.step(make)
        check(name, "result of a step", value, made)
        check(name, "result of a parallel step", value, ctx.submit(make).result())
        ctx.publish("it", made, type=annotation)
        received = ctx.wait_event("it", type=Any if annotation is None else annotation)
        check(name, "message", value, received)
        arrived.release()
        ctx.wait_event("go on")
        return received

    if annotation is not None:
        make.__annotations__ = {"return": annotation}
        travel.__annotations__ = {"ctx": Context, "given": annotation, "return": annotation}
    return travel


def main(path: str, is_replay: bool) -> None:
    with Engine(path, synchronous="off") as engine:
        for number, (name, (annotation, value)) in enumerate(VALUES.items()):
            travel, workflow_id = travel_of(name, annotation, value, is_replay), f"wf_{number}"
            if not is_replay:
                engine.start(workflow_id, travel, value)
                engine.send(workflow_id, "it", value, type=annotation)
                continue
            engine.send(workflow_id, "go on")
            check(name, "result of the workflow", value, engine.run(workflow_id, travel, value))
            check(name, "recorded result", value, engine.run(workflow_id, travel, value))
            check(name, "published value", value, engine.read(workflow_id, "it", type=annotation or Any))
            fork_id = f"{workflow_id}_fork"
            engine.fork(workflow_id, fork_id, at=engine.steps(workflow_id)[-1].step_key)
            engine.send(fork_id, "go on")
            check(name, "result of a fork", value, engine.run(fork_id, travel, value))
            check(name, "published value of a fork", value, engine.read(fork_id, "it", type=annotation or Any))
        for _ in range(len(VALUES) * (2 if is_replay else 1)):
            assert arrived.acquire(timeout=PATIENCE_SECONDS), "a workflow did not get as far as its message"
        print(looks, flush=True)
        if not is_replay:
            crash()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] == ["again"])
