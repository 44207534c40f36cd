"""Workflow functions that are renamed or moved go on, and so do scripts that are run in another way: rule 10."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import durable
from durable import Context, Engine, workflow
from durable.errors import NonDeterminismError, WorkflowConflictError, WorkflowNotFoundError
from durable.recovery.names import is_name_of
from durable.values.modules import is_gone, is_name_of_file

FLOW = """
import os, signal
from pathlib import Path
from durable import Context, Engine, workflow

class ShopError(Exception):
    def __init__(self, *, what: str) -> None:
        super().__init__(what)

def note(what: str) -> str:
    with open("effects.txt", "a") as file:
        file.write(what + " ")
    return what

def refuse() -> None:
    note("refuse")
    raise ShopError(what="closed")

{declared}
def {name}(ctx: Context) -> str:
    ctx.step(note, "one")
    try:
        ctx.step(refuse)
    except ShopError as error:
        caught = str(error)
    if os.environ.get("DIES"):
        os.kill(os.getpid(), signal.SIGKILL)
    return caught + ctx.step(note, "two")

if __name__ == "__main__" and not os.environ.get("QUIET"):
    with Engine("x.db") as engine:
        print(engine.run("id", {name}))
"""
KILLED = -signal.SIGKILL


class Shop:
    """A folder with the modules of a program, and one database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, path: str, name: str = "flow", declared: str = "") -> None:
        """Write a module with a workflow function of this name."""
        file = self.folder / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(FLOW.format(name=name, declared=declared))

    def python(self, *args: str, dies: bool = False) -> str:
        """Run Python in the folder, and return what it prints."""
        paths = [str(self.folder), str(Path(durable.__file__).parents[1])]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
        if dies:
            env["DIES"] = "1"
        command = [sys.executable, *args]
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == (KILLED if dies else 0), done.stderr
        return done.stdout.strip()

    def code(self, what: str, *, dies: bool = False, options: str = "") -> str:
        """Run code with an engine, and return what it prints: the value, or the error."""
        imports, _, expression = what.rpartition("; ")
        return self.python(
            "-c",
            f"from durable import Engine\n{imports}\nwith Engine('x.db'{options}) as engine:\n"
            f"    try:\n        print({expression})\n    except Exception as error:\n        print(repr(error))",
            dies=dies,
        )

    def effects(self) -> list[str]:
        """Return what the steps have done."""
        return (self.folder / "effects.txt").read_text().split()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


GOES_ON = "closedtwo"
DECLARED = "@workflow(former_names=['old:flow'])"


@pytest.mark.parametrize(
    "how",
    [
        "import new; engine.run('id', new.checkout)",
        "import new; engine.start('id', new.checkout).result()",
        "import new; engine.resume('id').result()",
        "import new; [each.result() for each in engine.recover().resumed][0]",
    ],
    ids=["run", "start", "resume", "recover"],
)
def test_a_function_goes_on_with_what_was_begun_under_a_former_name(shop: Shop, how: str) -> None:
    shop.write("old.py")
    shop.code("import old; engine.run('id', old.flow)", dies=True)
    shop.write("new.py", "checkout", DECLARED)
    (shop.folder / "old.py").unlink()

    assert shop.code(how) == GOES_ON
    assert shop.effects() == ["one", "refuse", "two"]
    assert shop.code("import new; engine.run('id', new.checkout)") == GOES_ON  # it has ended, under the old name


@pytest.mark.parametrize("how", ["engine.recover().resumed[0].result()", "engine.resume('id').result()"])
def test_a_named_module_is_imported_to_look_for_a_former_name(shop: Shop, how: str) -> None:
    shop.write("old.py")
    shop.code("import old; engine.run('id', old.flow)", dies=True)
    (shop.folder / "old.py").rename(shop.folder / "gone.txt")
    shop.write("new.py", "checkout", DECLARED)

    assert shop.code(how, options=", modules=['new']") == GOES_ON
    assert shop.effects() == ["one", "refuse", "two"]


@pytest.mark.parametrize(
    "how", ["import new; engine.run('id', new.flow)", "engine.resume('id').result()"], ids=["run", "resume"]
)
def test_an_old_module_that_still_offers_the_function_leads_to_it(shop: Shop, how: str) -> None:
    shop.write("old.py")
    shop.code("import old; engine.run('id', old.flow)", dies=True)
    shop.write("new.py")
    (shop.folder / "old.py").write_text("from new import flow\n")

    assert shop.code(f"import old; {how}") == GOES_ON
    assert shop.effects() == ["one", "refuse", "two"]


@pytest.mark.parametrize("is_left_empty", [False, True], ids=["no such module", "nothing in it"])
def test_a_function_that_has_left_a_place_goes_on_under_the_same_name(shop: Shop, is_left_empty: bool) -> None:
    shop.write("old.py")
    shop.code("import old; engine.run('id', old.flow)", dies=True)
    shop.write("new.py")
    (shop.folder / "old.py").unlink()
    if is_left_empty:
        (shop.folder / "old.py").write_text("")
    imports = "import new, old" if is_left_empty else "import new"

    assert shop.code(f"{imports}; engine.run('id', new.flow)") == GOES_ON
    assert shop.effects() == ["one", "refuse", "two"]


def test_a_function_beside_the_recorded_one_is_another_and_the_advice_of_the_message_works(shop: Shop) -> None:
    shop.write("old.py")
    shop.code("import old; engine.run('id', old.flow)", dies=True)
    shop.write("new.py")
    told = shop.code("import new; engine.run('id', new.flow)")
    assert "WorkflowConflictError" in told
    advice = re.search(r"mark the function with @durable\.(workflow\(former_names=\['old:flow'\]\))", told)
    assert advice is not None
    assert shop.effects() == ["one", "refuse"]

    shop.write("new.py", declared=f"@{advice[1]}")
    assert shop.code("import new; engine.run('id', new.flow)") == GOES_ON


def test_the_advice_for_a_function_that_cannot_be_imported_works(shop: Shop) -> None:
    shop.write("old.py")
    shop.code("import old; engine.run('id', old.flow)", dies=True)
    shop.write("new.py", "checkout")
    (shop.folder / "old.py").unlink()
    told = shop.code("import new; engine.resume('id')")
    assert "WorkflowNotFoundError" in told
    advice = re.search(r"if it was renamed, mark the function with @durable\.(workflow\(.*?\))", told)
    assert advice is not None

    shop.write("new.py", "checkout", f"@{advice[1]}")
    assert shop.code("import new; engine.resume('id').result()") == GOES_ON


# ---- one file, run in several ways


ENGINE = "from durable import Engine; print(Engine('x.db').run('id', flow))"
SHELL = "from IPython.core.interactiveshell import InteractiveShell as Shell; shell = Shell.instance(); "
QUIET = "import os; os.environ['QUIET'] = '1'; "
CELL = "with Engine('x.db') as engine: print(engine.run('id', flow))"
AS_SCRIPT = ("pkg/flow.py",)
AS_MODULE = ("-m", "pkg.flow")
IMPORTED = ("-c", f"from pkg.flow import flow; {ENGINE}")
IMPORTED_ALONE = ("-c", f"import sys; sys.path.insert(0, 'pkg'); from flow import flow; {ENGINE}")
RUN_IN_A_SHELL = ("-c", f"{SHELL}shell.run_line_magic('run', 'pkg/flow.py')")
RUN_THEN_CALLED = ("-c", f"{QUIET}{SHELL}shell.run_line_magic('run', 'pkg/flow.py'); shell.run_cell({CELL!r})")
WAYS = {
    "script": AS_SCRIPT,
    "-m": AS_MODULE,
    "imported": IMPORTED,
    "imported alone": IMPORTED_ALONE,
    "%run": RUN_IN_A_SHELL,
    "%run, then a cell": RUN_THEN_CALLED,
}


@pytest.mark.parametrize("after", WAYS)
@pytest.mark.parametrize("before", ["script", "-m", "%run", "%run, then a cell"])
def test_a_file_that_is_run_in_another_way_goes_on(shop: Shop, before: str, after: str) -> None:
    shop.write("pkg/flow.py")
    shop.python(*WAYS[before], dies=True)

    assert shop.python(*WAYS[after]).splitlines()[-1] == GOES_ON
    assert shop.effects() == ["one", "refuse", "two"]


@pytest.mark.parametrize("before", ["script", "-m"])
@pytest.mark.parametrize("after", ["script", "-m"])
def test_a_file_resumes_by_the_recorded_name_what_it_began_in_another_way(shop: Shop, before: str, after: str) -> None:
    shop.write("pkg/flow.py")
    shop.python(*WAYS[before], dies=True)
    text = (shop.folder / "pkg/flow.py").read_text()
    (shop.folder / "pkg/flow.py").write_text(text.replace('run("id", flow)', 'resume("id").result()'))

    assert shop.python(*WAYS[after]) == GOES_ON
    assert shop.effects() == ["one", "refuse", "two"]


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        ("flow", "/a/pkg/flow.py", True),
        ("pkg.flow", "/a/pkg/flow.py", True),
        ("a.pkg.flow", "/a/pkg/flow.py", True),
        ("other.flow", "/a/pkg/flow.py", False),
        ("low", "/a/pkg/flow.py", False),
        ("pkg", "/a/pkg/__main__.py", True),
        ("pkg", "/a/pkg/__init__.py", True),
        ("pkg", "/a/pkg/flow.py", False),
        ("flow", None, False),
        ("flow", "<string>", False),
    ],
)
def test_a_file_has_the_names_under_which_it_could_be_imported(name: str, file: str | None, expected: bool) -> None:
    assert is_name_of_file(name, file) == expected


def test_to_see_whether_a_module_is_gone_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_of_names" / "inner").mkdir(parents=True)
    (tmp_path / "shop_of_names" / "__init__.py").write_text("raise SystemExit")
    (tmp_path / "shop_of_names" / "flows.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    names = [
        "shop_of_names",
        "shop_of_names.flows",
        "shop_of_names.gone",
        "shop_of_names.flows.deeper",
        "nowhere.at.all",
    ]

    assert [is_gone(name) for name in names] == [False, False, True, True, True]
    assert not [name for name in sys.modules if name.startswith("shop_of_names")]


# ---- the decorator


def moved(ctx: Context) -> str:
    return ctx.workflow_id


def local_of(number: int) -> Callable[[Context], int]:
    def flow(_: Context) -> int:
        return number

    return flow


def test_a_name_without_a_module_is_of_the_same_module() -> None:
    @workflow(former_names=["pay", "old.shop:pay"])
    def checkout(ctx: Context) -> str:
        return ctx.workflow_id

    assert is_name_of(f"{__name__}:pay", checkout)
    assert is_name_of("old.shop:pay", checkout)
    assert not is_name_of("old.shop:checkouts", checkout)


@pytest.mark.parametrize("names", ["pay", [1], [b"pay"]])
def test_former_names_are_a_list_of_texts(names: Any) -> None:
    with pytest.raises(TypeError, match="former_names: expected a list of names"):
        workflow(former_names=names)


def test_a_function_within_another_has_not_left_any_place() -> None:
    assert not is_name_of("nowhere.at.all:local_of.<locals>.flow", local_of(1))
    assert is_name_of("nowhere.at.all:moved", moved)


def test_arguments_are_compared_under_a_former_name_too(database: Path) -> None:
    def before(ctx: Context, number: int) -> int:
        return number

    @workflow(former_names=["test_arguments_are_compared_under_a_former_name_too.<locals>.before"])
    def after(ctx: Context, number: int) -> int:
        return number

    with Engine(database) as engine:
        engine.run("id", before, 1)
        assert engine.run("id", after, 1) == 1
        with pytest.raises(WorkflowConflictError) as raised:
            engine.run("id", after, 2)

    assert "former_names" not in str(raised.value)


def test_a_child_that_was_renamed_is_the_same_child(database: Path) -> None:
    effects: list[str] = []

    def pack(ctx: Context) -> str:
        return ctx.step("box", lambda: effects.append("box") or "box")

    here = "test_a_child_that_was_renamed_is_the_same_child.<locals>"

    @workflow(former_names=[f"{here}.pack"])
    def wrap(ctx: Context) -> str:
        return ctx.step("box", lambda: effects.append("box again") or "box")

    def ship(ctx: Context) -> str:
        child: Any = ctx.child(pack if dies else wrap)
        value: str = child.result()
        if dies:
            raise SystemExit
        return value + ctx.child(wrap).result()

    dies = True
    with Engine(database) as engine, pytest.raises(SystemExit):
        engine.run("id", ship)
    dies = False
    with Engine(database) as engine:
        assert engine.run("id", ship) == "boxbox"
        assert [step.step_key for step in engine.steps("id")] == ["pack_1", "wrap_2"]

    assert effects == ["box", "box again"]


def test_the_message_of_a_renamed_child_names_what_works(database: Path) -> None:
    def pack(ctx: Context) -> str:
        return ctx.step("box", lambda: "box")

    def wrap(ctx: Context) -> str:
        return ctx.step("box", lambda: "box")

    def ship(ctx: Context) -> str:
        value: str = ctx.child(fn).result()
        if fn is pack:
            raise SystemExit
        return value

    fn: Any = pack
    with Engine(database) as engine, pytest.raises(SystemExit):
        engine.run("id", ship)
    fn = wrap
    with Engine(database) as engine, pytest.raises(NonDeterminismError) as raised:
        engine.run("id", ship)
    assert "if only the name has changed, mark the function with @workflow(former_names=['pack']); else" in str(
        raised.value
    )

    fn = workflow(former_names=["pack", "test_the_message_of_a_renamed_child_names_what_works.<locals>.pack"])(wrap)
    with Engine(database) as engine:
        assert engine.run("id", ship) == "box"


def test_an_unknown_name_is_not_found(database: Path) -> None:
    with Engine(database) as engine, pytest.raises(WorkflowNotFoundError):
        engine.resume("id")
