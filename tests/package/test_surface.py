"""The public surface: `dir` shows what users call, each public name says what it does, and the examples run."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import durable
from durable import Context, Engine
from durable.on_dbos import DBOSEngine
from durable.recovery.handle import Handle

MODULES = ["", "clock", "context", "engine", "errors", "formats", "logs", "observer", "recovery.handle", "testing"]
CLASSES = [Context, Engine, DBOSEngine, Handle, durable.Future, durable.Retry, durable.StepInfo, durable.Transaction]
NOT_MINE = {"cancelled", "running", "set_running_or_notify_cancel", "as_integer_ratio"}  # of a standard future


def public(cls: type) -> Iterator[tuple[str, Any]]:
    """The names of a class that its package defines, with what stands behind them."""
    for name in dir(cls):
        value = inspect.getattr_static(cls, name)
        if not name.startswith("_") and name not in NOT_MINE and (callable(value) or isinstance(value, property)):
            yield name, value


def test_dir_shows_of_a_workflow_and_of_an_engine_only_what_users_call(tmp_path: Path) -> None:
    of_object = set(dir(object)) | {"__module__"}
    seen: list[str] = []

    def look(ctx: Context) -> None:
        seen.extend(dir(ctx))

    with Engine(tmp_path / "workflow.db") as engine:
        engine.run("look", look)
        assert dir(engine) == dir(Engine)
    assert seen == dir(Context)
    for cls in (Context, Engine):
        assert [name for name in dir(cls) if name.startswith("_") and name not in of_object] == []
        assert [name for name in dir(cls) if not name.startswith("_") and name not in vars(cls)] == []
    assert {"step", "submit", "map", "workflow_id", "frame"} < set(dir(Context))
    assert {"reach", "draw", "recall", "answer"}.isdisjoint(dir(Context))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_each_public_name_of_a_class_says_what_it_does(cls: type) -> None:
    assert [name for name, value in public(cls) if not inspect.getdoc(getattr(value, "__func__", value))] == []


def test_each_public_name_of_the_package_says_what_it_does() -> None:
    silent = [name for name in durable.__all__ if not (getattr(durable, name).__doc__ or "").strip()]
    own = [error for error in vars(durable.errors).values() if inspect.isclass(error)]

    assert silent == []
    assert [error.__name__ for error in own if not error.__doc__] == []


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = import_module(f"durable.{name}".rstrip("."))
    with Engine("workflow.db") as engine:
        names = {**vars(durable), **vars(module), "engine": engine}
        tests = [each for each in doctest.DocTestFinder().find(module, extraglobs=names) if each.examples]
        said: list[str] = []
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
        for test in tests:
            runner.run(test, out=said.append)

    assert "".join(said) == ""
    assert bool(tests) == (name in ("context", "engine", "observer", "recovery.handle"))
