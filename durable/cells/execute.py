"""Execute: the statements of a cell, as IPython executes them, in the variables of the notebook."""

from __future__ import annotations

import ast
import asyncio
import contextvars
import inspect
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from IPython.core.displayhook import DisplayHook

from durable.cells.loops import NAME

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from durable.cells.run import Cell, CellRun


def execute(run: CellRun, tree: ast.Module) -> None:
    """Execute the code of a cell. Its last expression is shown. Raises what it raises."""
    shell: Any = run.shell
    variables, filename = shell.user_ns, _filename_of(run.cell, shell)
    tree = shell.transform_ast(tree)
    is_quiet = DisplayHook.semicolon_at_end_of_expression(run.cell.source)  # type: ignore[no-untyped-call]
    *_, last = [None] if is_quiet else [None, *tree.body]
    variables[NAME] = run.loops
    try:
        for statement in tree.body:
            is_shown = statement is last and isinstance(statement, ast.Expr)
            module: Any = ast.Interactive([statement]) if is_shown else ast.Module([statement], [])
            kind = "single" if is_shown else "exec"
            code = compile(module, filename, kind, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            result = eval(code, variables)
            if code.co_flags & inspect.CO_COROUTINE:
                _Elsewhere(run).run(result)
    finally:
        variables.pop(NAME, None)


def execute_definitions(
    cell: Cell, shell: InteractiveShell, definitions: Sequence[ast.stmt], *, is_last: bool = False
) -> list[ast.stmt]:
    """Execute imports and definitions. Return those that need variables which are not there yet."""
    late = []
    for statement in definitions:
        code = compile(ast.Module([statement], []), _filename_of(cell, shell), "exec", dont_inherit=True)
        try:
            exec(code, shell.user_ns)
        except NameError:
            if is_last:
                raise
            late.append(statement)
    return late


def _filename_of(cell: Cell, shell: Any) -> str:
    name: str = shell.compile.cache(cell.source, shell.execution_count, raw_code=cell.raw)
    return name


class _Elsewhere:
    """Runs a coroutine of a cell on an event loop of its own, in another thread, since the kernel's loop waits for us.

    Meanwhile this thread, which is the workflow's, makes the calls that need it.
    """

    def __init__(self, run: CellRun) -> None:
        self._run = run
        self._calls: queue.SimpleQueue[tuple[Future[Any], Any, tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._result: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def run(self, coroutine: Any) -> None:
        """Run it to its end. Ctrl+C cancels it."""
        context = contextvars.copy_context()
        thread = threading.Thread(target=lambda: context.run(self._work, coroutine), name="cell", daemon=True)
        self._run.home = self._call_home
        try:
            thread.start()
            self._serve()
        except BaseException:
            if self._loop is not None and self._task is not None and thread.is_alive():
                self._loop.call_soon_threadsafe(self._task.cancel)
            thread.join()
            raise
        finally:
            self._run.home = None
        thread.join()
        self._result.result()

    def _work(self, coroutine: Any) -> None:
        async def main() -> None:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            await coroutine

        try:
            asyncio.run(main())
        except BaseException as error:
            self._result.set_exception(error)
        else:
            self._result.set_result(None)
        finally:
            self._calls.put(None)

    def _serve(self) -> None:
        while (asked := self._calls.get()) is not None:
            future, call, args = asked
            try:
                future.set_result(call(*args))
            except BaseException as error:
                future.set_exception(error)
                if not isinstance(error, Exception):
                    raise

    def _call_home(self, call: Any, *args: Any) -> Any:
        if threading.current_thread().name != "cell":
            return call(*args)
        future: Future[Any] = Future()
        self._calls.put((future, call, args))
        return future.result()
