"""A web service whose orders are workflows: start one, look at it, approve it, cancel it.

Any number of processes serve one file, and an order outlives each of them:

uvicorn durable.examples.service:app --workers 2 --timeout-graceful-shutdown 25

Needs the extra `service`. The file is `workflow.db`, or that of the environment variable ORDERS_DB.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from durable import Context, Engine, current_step
from durable.errors import (
    StoreError,
    WorkflowBusyError,
    WorkflowConflictError,
    WorkflowEndedError,
    WorkflowNotFoundError,
)
from durable.examples.effects import have_effect

RECOVER_SECONDS = 2.0  # how often a process looks for orders that a dead one has left
STOP_SECONDS = 20.0  # for the steps in flight; uvicorn is to wait longer than this


# ---- the workflow


def reserve(item: str) -> str:
    """Take the item off the shelf."""
    have_effect(f"reserved {item}", 0.0)
    return f"{item}, reserved"


def release(item: str) -> None:
    """Put it back."""
    have_effect(f"released {item}", 0.0)


def charge(item: str, seconds: float) -> str:
    """Take the money. It takes its time, and says how far it is."""
    current_step().publish("charged", 0, total=1)
    have_effect(f"charged for {item}", seconds)
    return f"paid, see {current_step().idempotency_key}"


def order(ctx: Context, item: str, seconds: float = 0.0) -> str:
    """Reserve, wait for an approval, charge. If the order fails or is cancelled, the reserved item is released."""
    ctx.on_failure(release, item)
    ctx.step(reserve, item)
    if not ctx.wait_event("approval", type=bool, timeout_seconds=86400):
        raise ValueError(f"{item}: not approved")
    return ctx.step(charge, item, seconds)


# ---- the service


class Wanted(BaseModel):
    """The body of a request for an order. `seconds` is how long the charge takes."""

    item: str
    seconds: float = 0.0


async def recover(engine: Engine) -> None:
    """Take up what dead processes have left, again and again."""
    while True:
        try:
            await asyncio.to_thread(engine.recover)
        except StoreError:
            logging.getLogger(__name__).exception("the orders of dead processes cannot be read, and are tried again")
        await asyncio.sleep(RECOVER_SECONDS)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open an engine in this process; at its end let the steps in flight end. The next process goes on."""
    with Engine(os.environ.get("ORDERS_DB", "workflow.db"), suspend=True, modules=[__name__]) as engine:
        app.state.engine = engine
        recovering = asyncio.create_task(recover(engine))
        yield
        recovering.cancel()
        await asyncio.to_thread(engine.stop, timeout_seconds=STOP_SECONDS)


app = FastAPI(lifespan=lifespan)


@app.post("/orders/{order_id}", status_code=202)
def start(order_id: str, wanted: Wanted) -> dict[str, Any]:
    """Start an order. The same request again changes nothing, so a client may repeat it."""
    try:
        app.state.engine.start(order_id, order, wanted.item, wanted.seconds)
    except WorkflowBusyError:
        pass  # another process runs it
    except WorkflowConflictError as error:
        raise HTTPException(409, f"order {order_id!r} is another one") from error
    return look(order_id)


@app.get("/orders/{order_id}")
def look(order_id: str) -> dict[str, Any]:
    """Return how an order stands, whichever process runs it."""
    engine: Engine = app.state.engine
    try:
        record, steps = engine.workflow(order_id), engine.steps(order_id)
    except WorkflowNotFoundError as error:
        raise HTTPException(404, f"no order {order_id!r}") from error
    return {
        "status": record.status,
        "result": None if record.output is None else json.loads(record.output),
        "steps": {step.step_key: step.status for step in steps},
        "progress": [each.text for each in engine.progress(order_id)],
    }


@app.post("/orders/{order_id}/approval", status_code=202)
def approve(order_id: str, *, granted: bool) -> dict[str, Any]:
    """Approve an order, or not. The first answer counts, also if it is sent again."""
    try:
        app.state.engine.send(order_id, "approval", granted, key="approval")
    except WorkflowNotFoundError as error:
        raise HTTPException(404, f"no order {order_id!r}") from error
    except WorkflowEndedError as error:
        raise HTTPException(409, f"order {order_id!r} is {error.status}") from error
    return look(order_id)


@app.delete("/orders/{order_id}", status_code=202)
def cancel(order_id: str) -> dict[str, Any]:
    """Cancel an order: a step in flight ends first, then what was reserved is released."""
    try:
        app.state.engine.cancel(order_id)
    except WorkflowNotFoundError as error:
        raise HTTPException(404, f"no order {order_id!r}") from error
    return look(order_id)
