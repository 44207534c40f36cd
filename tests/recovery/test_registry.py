"""Rule 10: a recorded name alone makes nobody run a function that the code has not vouched for."""

from __future__ import annotations

import functools
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from os import system
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest

import durable
from durable import Context, Engine
from durable.clock import ManualClock
from durable.errors import WorkflowNotFoundError
from durable.recovery.registry import Registry
from durable.values.codec import checksum
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import eventually

if TYPE_CHECKING:
    from durable import Context as KnownToTypeCheckersAlone

FLOWS = """
from os import system
from durable import Context

def annotated(ctx: Context) -> str:
    return ctx.workflow_id

def bare(ctx):
    return ctx.workflow_id
"""


def plant(database: Path, function: str, arguments: str = "{}") -> None:
    """A file from somebody else: a workflow whose process has died, with a function of their choice."""
    with Engine(database) as engine, pytest.raises(SystemExit):
        engine.run("planted", leave)
    rewrite(database, function, arguments)


def rewrite(database: Path, function: str, arguments: str) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        sql = "update workflows set function = ?, arguments = ?, checksum = ?"
        db.execute(sql, [function, arguments, checksum(arguments, None, None)])


def leave(_: object) -> None:
    """A workflow whose process ends, or a step."""
    raise SystemExit


@pytest.fixture
def flows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with workflows, which is not imported yet."""
    name = f"flows_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FLOWS)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def recover(database: Path, **options: Any) -> object:
    """The result of what was planted, or why it was left."""
    with Engine(database, **options) as engine:
        found = engine.recover()
        assert len(found.resumed) + len(found.left) == 1
        return found.resumed[0].result() if found.resumed else found.left["planted"]


# ---- what is never run


def command(folder: Path) -> str:
    """The arguments of a function that runs a shell."""
    return f'{{"cmd": "touch {folder}/called"}}'


def test_a_recorded_command_is_not_run_by_recover(database: Path, tmp_path: Path) -> None:
    plant(database, "pydoc:pipepager", command(tmp_path))

    reason = recover(database)

    assert str(reason).startswith("workflow 'planted': its function 'pydoc:pipepager' ")
    assert not (tmp_path / "called").exists()


def test_a_recorded_command_is_not_run_by_an_engine_that_suspends(
    database: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock(skip=False)
    with Engine(database, suspend=True, clock=clock) as engine:
        engine.start("planted", sleep_long)
        eventually(lambda: [run.ended for run in engine.runs("planted")] == ["suspended"])
    clock.advance(61)
    rewrite(database, "pydoc:pipepager", command(tmp_path))

    with Engine(database, suspend=True, clock=clock):
        eventually(lambda: "'pydoc:pipepager'" in caplog.text)

    assert not (tmp_path / "called").exists()


def sleep_long(ctx: Context) -> None:
    """Waits a minute."""
    ctx.sleep(60)


def test_a_recorded_command_is_not_run_in_order_to_cancel_it(database: Path, tmp_path: Path) -> None:
    with Engine(database) as engine, pytest.raises(SystemExit):
        engine.run("planted", undo_and_stop)
    rewrite(database, "pydoc:pipepager", command(tmp_path))

    with Engine(database) as engine:
        engine.cancel("planted")

        assert engine.workflow("planted").status == "running"
    assert not (tmp_path / "called").exists()


def undo_and_stop(ctx: Context) -> None:
    """Has something to undo."""
    ctx.on_failure(leave, 1)
    ctx.step(leave, 2)


def test_what_a_named_module_has_imported_from_elsewhere_is_not_run(database: Path, flows: str) -> None:
    plant(database, f"{flows}:system", '{"command": "exit"}')

    assert "is not run by its name alone" in str(recover(database, modules=[flows]))


class Client:
    """What a module may hold beside workflows."""

    @property
    def connection(self) -> Client:
        """Has an effect as soon as somebody looks."""
        asked.append("connection")
        return self

    def __call__(self, command: str) -> None:
        """Not a workflow: it has no name."""

    @classmethod
    def of_class(cls, ctx: Context) -> str:
        """A workflow."""
        return ctx.workflow_id


class OfContext:
    """Takes a context, and is no function."""

    def __init__(self, ctx: Context) -> None:
        asked.append(ctx)


asked: list[object] = []
client = Client()
alias = system


def helper(path: Path, ctx: Context) -> None:
    """Not a workflow: its first parameter is something else."""


def keywords_alone(*, ctx: Context) -> None:
    """Not a workflow: the context is passed by position."""


@pytest.mark.parametrize(
    "name",
    ["client", "client.connection", "OfContext", "alias", "os.system", "helper", "keywords_alone", "asked", "sys"],
)
def test_what_is_no_workflow_function_is_not_found_even_where_its_module_is_named(name: str) -> None:
    asked.clear()

    with pytest.raises((WorkflowNotFoundError, AttributeError)):
        Registry([__name__]).find("wf", f"{__name__}:{name}")
    assert asked == []


# ---- what is run


def by_class(ctx: Context) -> str:
    """Annotated with the class."""
    return ctx.workflow_id


class OurContext(Context):
    """A subclass."""


def by_subclass(ctx: OurContext) -> None: ...
def by_attribute(ctx: durable.Context) -> None: ...
def by_annotated(ctx: Annotated[Context, "of ours"], what: NotKnownHere) -> None: ...  # type: ignore[name-defined] # noqa: F821
async def by_coroutine(ctx: Context) -> None: ...


def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


@logged
def by_wrapper(ctx: Context) -> None: ...


VOUCHED_FOR = [by_class, by_subclass, by_attribute, by_annotated, by_coroutine, by_wrapper, Client.of_class]


@pytest.mark.parametrize("fn", VOUCHED_FOR, ids=lambda fn: fn.__name__)
def test_a_function_of_an_imported_module_is_found_by_its_annotation(fn: Callable[..., Any]) -> None:
    assert Registry().find("wf", f"{__name__}:{fn.__qualname__}") == fn


def bare(ctx):  # type: ignore[no-untyped-def]
    return ctx.workflow_id


def any_of_all(ctx: Any) -> None: ...
def unresolved(ctx: KnownToTypeCheckersAlone) -> None: ...


@pytest.mark.parametrize("fn", [bare, any_of_all, unresolved], ids=lambda fn: fn.__name__)
def test_a_function_without_the_annotation_is_found_where_its_module_is_named_or_it_was_passed(
    fn: Callable[..., Any],
) -> None:
    name = f"{__name__}:{fn.__name__}"
    passed = Registry()
    passed.add(fn)

    assert Registry([__name__]).find("wf", name) is passed.find("wf", name) is fn
    with pytest.raises(WorkflowNotFoundError, match=r"annotate it, or name its module \(modules=\['tests"):
        Registry().find("wf", name)


def test_another_function_of_the_same_name_is_not_the_one_that_was_passed() -> None:
    def system_by_steps(ctx: Any, command: str) -> int:
        return int(ctx.step(system, command))

    registry = Registry()
    registry.add(functools.update_wrapper(system_by_steps, os.path.join))  # now it claims another's name

    with pytest.raises(WorkflowNotFoundError):
        registry.find("wf", f"{os.path.join.__module__}:join")


def test_one_that_was_passed_is_recovered_by_the_same_engine(database: Path) -> None:
    plant(database, f"{__name__}:bare")
    with Engine(database) as engine:
        left = engine.recover().left
        engine.run("passed", bare)
        [handle] = engine.recover().resumed

        assert list(left) == ["planted"]
        assert handle.result() == "planted"


def test_resume_is_asked_for_by_id_and_imports_the_module(database: Path, flows: str) -> None:
    plant(database, f"{flows}:bare")
    with Engine(database) as engine:
        assert engine.resume("planted").result() == "planted"


# ---- what the refusal advises


def test_a_module_that_is_not_imported_is_named_or_imported(database: Path, flows: str) -> None:
    plant(database, f"{flows}:annotated")

    assert recover(database) == (
        f"workflow 'planted': its function '{flows}:annotated' cannot be imported here by its name alone; name its "
        f"module (modules=['{flows}'] of the engine, or `durable worker {flows}`), or run it with "
        f"engine.run('planted', function)"
    )
    assert flows not in sys.modules
    assert recover(database, modules=[flows]) == "planted"


def test_a_module_that_was_imported_needs_no_name(database: Path, flows: str) -> None:
    plant(database, f"{flows}:annotated")
    __import__(flows)

    assert recover(database) == "planted"


def test_a_function_without_the_annotation_is_run_once_its_module_is_named(database: Path, flows: str) -> None:
    plant(database, f"{flows}:bare")
    __import__(flows)

    assert recover(database) == (
        f"workflow 'planted': its function '{flows}:bare' is not run by its name alone, since its first parameter is "
        f"not annotated durable.Context (imported at run time, too); annotate it, or name its module "
        f"(modules=['{flows}'] of the engine, or `durable worker {flows}`), or run it with "
        f"engine.run('planted', function)"
    )
    assert recover(database, modules=[flows]) == "planted"


def test_modules_are_a_list_of_names(database: Path) -> None:
    with pytest.raises(TypeError, match=r"modules: expected a list of names, as in \['shop.flows'\], got 'flows'"):
        Engine(database, modules="flows")
    assert not database.exists()


SPAWNING = """
import multiprocessing
from durable import Context, Engine

def greet(ctx: Context, name: str) -> str:
    return ctx.step(str.upper, name)

def work(_=None) -> str:
    with Engine("workflow.db", suspend=True) as engine:
        name = engine.run("emp_001", greet, "Jane")
        return name, engine.resume("emp_001").result(), engine.workflow("emp_001").function

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(work(), pool.map(work, [None]))
"""


@pytest.mark.parametrize("command", [["-m", "flows"], ["flows.py"]], ids=["module", "script"])
def test_a_process_that_multiprocessing_has_spawned_calls_functions_by_the_same_name(
    tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "flows.py").write_text(SPAWNING)

    ended = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )

    result = ("JANE", "JANE", "flows:greet")
    assert ended.stdout.strip() == f"{result} [{result}]", ended.stderr
