"""Mapping: `durable.map`, a workflow of its own with one row for each item."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from durable import Context, Engine
from durable.cells.errors import CellError
from durable.cells.inputs import Inputs, digest_of, refuse
from durable.cells.variables.pack import Packer
from durable.cells.variables.unpack import Unpacker

if TYPE_CHECKING:
    from durable.cells.run import CellRun

_calls: list[tuple[Callable[[int], Any], int]] = []  # the function that the workflow is to call, and how often
REMEDY = "return plain data, an array or a frame"


def durable_map(
    ctx: Context,
    digests: dict[str, str],  # noqa: ARG001 - these two identify the call
    items: list[str],  # noqa: ARG001
    max_concurrent: int,
    per_second: float | None,
) -> list[Any]:
    """Call the function that the cell has made ready with each item."""
    if not _calls:
        raise CellError(f"{ctx.workflow_id!r} can go on in its notebook only; run its cell there", cell=ctx.workflow_id)
    call, number = _calls[-1]
    return ctx.map(call, range(number), max_concurrent=max_concurrent, per_second=per_second)


def map_in_cell(
    run: CellRun, fn: Callable[[Any], Any], items: list[Any], max_concurrent: int, per_second: float | None
) -> list[Any]:
    """See `durable.map`."""
    path, number = run.loops.begin_inner()
    place = "".join(f"{loop}.{index}/" for loop, index in path)
    workflow_id, variables = f"{run.cell.name}/{place}map {number}", run.variables
    digests = _digests(run, fn, variables)

    def one(index: int) -> Any:
        packer = Packer()
        tree = packer.pack({"result": fn(items[index])})
        if packer.refusals:
            raise refuse(
                run.cell.name, packer.refusals, f"durable.map, item {index}: its result cannot be kept", REMEDY
            )
        return tree

    one.__name__ = getattr(fn, "__name__", "item").strip("<>") or "item"
    _calls.append((one, len(items)))
    try:
        arguments = digests, [_digest(item) for item in items], max_concurrent, per_second
        trees = run.at_home(_run, run.engine, workflow_id, arguments)
    finally:
        _calls.pop()
    return [Unpacker(variables).unpack(tree)["result"] for tree in trees]


def _digests(run: CellRun, fn: Callable[[Any], Any], variables: dict[str, Any]) -> dict[str, str]:
    """Return the digests of the function, of what it reads, and of the call of the cell."""
    inputs = Inputs({**variables, "fn": fn}, run.cell.pickled, run.cell.dropped)
    inputs.add(["fn"])
    return {**inputs.digests, "cell": _digest([run.cell.code.text, run.cell.inputs])}


def _run(engine: Engine, workflow_id: str, arguments: tuple[Any, ...]) -> Any:
    record = engine.find_workflow(workflow_id)
    names = ("digests", "items", "max_concurrent", "per_second")
    is_other = record is not None and any(
        json.loads(record.arguments)[name] != given for name, given in zip(names, arguments, strict=True)
    )
    call = engine.restart if is_other else engine.run
    return call(workflow_id, durable_map, *arguments)


def _digest(value: Any) -> str:
    digest, refusals, _ = digest_of("item", value)
    if refusals:
        raise CellError(f"durable.map: {refusals[0]}; pass items with content to compare", names=["item"])
    return digest
