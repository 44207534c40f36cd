"""Import: `import durable` loads what a workflow needs, and no more."""

import json
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import durable

HEAVY = {
    "asyncio",
    "dbos",
    "sqlalchemy",
    "psycopg",
    "pandas",
    "numpy",
    "matplotlib",
    "IPython",
    "ipykernel",
    "ipywidgets",
    "anywidget",
    "jupyter_client",
    "rich",
    "typer",
    "multiprocessing",
    "ssl",
    "email",
    "unittest",
}


def modules_after(code: str) -> set[str]:
    """What a fresh interpreter, without site packages' start-up hooks, has loaded after running it."""
    report = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    child = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(json.loads(child.stdout.splitlines()[-1]))


SYNC_RUN = """
import durable

def step() -> int:
    return 7

def workflow(ctx: durable.Context) -> int:
    ctx.branch("side", lambda inner: inner.step(step)).result()
    return ctx.step(step) + ctx.submit(step).result()

with durable.Engine({path!r}) as engine:
    assert engine.run("wf", workflow) == 14
"""

ASYNC_RUN = """
import durable

async def step() -> int:
    return 7

def workflow(ctx: durable.Context) -> int:
    return ctx.step(step)

with durable.Engine({path!r}) as engine:
    assert engine.run("wf", workflow) == 7
"""


def test_import_durable_loads_nothing_heavy() -> None:
    loaded = modules_after("import durable") - modules_after("import msgspec")

    assert HEAVY & loaded == set()
    assert {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names == {"durable"}
    assert not {
        name
        for name in loaded
        if name.startswith(("durable.lab", "durable.terminal.cli", "durable.examples", "durable.testing"))
    }


def test_import_durable_leaves_out_what_few_workflows_need() -> None:
    loaded = modules_after("import durable")

    later = (
        "store.reader", "store.archive", "recovery.recover", "waiting.suspension", "limits.isolation",
        "limits.payload", "limits.timeout", "parallel.batch",
    )  # fmt: skip
    assert not {"queue", *(f"durable.{name}" for name in later)} & loaded
    assert "durable.store.reader" in modules_after("import durable.store.reader")


def test_a_workflow_without_coroutines_runs_without_asyncio(tmp_path: Path) -> None:
    assert "asyncio" not in modules_after(SYNC_RUN.format(path=str(tmp_path / "workflow.db")))


def test_a_coroutine_brings_asyncio_so_that_the_look_at_the_modules_is_known_to_see_it(tmp_path: Path) -> None:
    assert "asyncio" in modules_after(ASYNC_RUN.format(path=str(tmp_path / "workflow.db")))


def test_the_public_names_are_those_that_the_package_lists() -> None:
    public = {
        name for name, value in vars(durable).items() if not name.startswith("_") and not hasattr(value, "__path__")
    }

    assert {name for name in public if type(getattr(durable, name)).__name__ != "module"} == set(durable.__all__)
    assert durable.__all__ == sorted(durable.__all__)


def test_the_types_ship_with_the_package() -> None:
    assert (Path(durable.__file__).parent / "py.typed").is_file()
    assert (Path(durable.__file__).parent / "store" / "schema.sql").is_file()


@pytest.mark.parametrize("name", ["durable.testing", "durable.errors", "durable.observer", "durable.clock"])
def test_the_modules_that_users_may_import_load_nothing_of_notebooks_or_terminals(name: str) -> None:
    loaded = modules_after(f"import {name}")

    assert (HEAVY - {"multiprocessing"}) & loaded == set()


def test_a_run_of_the_tests_loads_no_table_or_plot_before_a_test_needs_it() -> None:
    loaded = modules_after("import tests.conftest, tests.support.processes, tests.support.workflows")

    assert {"pandas", "numpy", "matplotlib", "IPython", "jupyter_client", "durable.lab"} & loaded == set()


def test_the_pytest_plugin_imports_no_crash_matrix() -> None:
    loaded = modules_after("import durable.testing.plugin")

    assert {name for name in loaded if name.startswith("durable.testing")} == {
        "durable.testing",
        "durable.testing.plugin",
    }


def test_each_name_of_testing_can_be_imported() -> None:
    from durable import testing

    assert all(getattr(testing, name) is not None for name in testing.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'crash_matrixx'"):
        _ = testing.crash_matrixx


def test_the_facts_of_a_step_have_types_that_resolve() -> None:
    assert typing.get_type_hints(durable.StepInfo)["database"] is Path


TORN = """
import sys, tempfile
from pathlib import Path
from durable import Context, Engine
from durable.signals import _Switch

torn = set()

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("durable", "uuid", "random") and not _Switch.depth:
            torn.add(name)

def one() -> int:
    return 1

def look(db) -> int:
    return db.execute("select 1").fetchone()[0]

def leg(ctx: Context) -> int:
    return ctx.step(one)

def everything(ctx: Context) -> None:
    ctx.step(one), ctx.submit(one).result(), ctx.map(abs, [1]), ctx.map(abs, [1], max_concurrent=1), ctx.now()
    ctx.sleep(0.001), ctx.timer(0.001).result(), ctx.random(), ctx.uuid4(), ctx.publish("p", 1), ctx.patched("x")
    ctx.first(ctx.event("e"), ctx.timer(0.001)).result(), list(ctx.as_completed([ctx.submit(one)]))
    ctx.child(leg).result(), ctx.branch(leg).result(), ctx.on_failure(one), ctx.transaction(look)

with tempfile.TemporaryDirectory() as folder, Engine(Path(folder) / "workflow.db") as engine:
    engine.run("warm", leg)
    sys.meta_path.insert(0, Watch())
    engine.run("wf", everything)
    print(*sorted(torn))
"""


def test_no_signal_is_let_through_while_an_operation_is_imported() -> None:
    child = subprocess.run([sys.executable, "-c", TORN], capture_output=True, text=True, check=True, timeout=60)

    assert child.stdout.split() == []
