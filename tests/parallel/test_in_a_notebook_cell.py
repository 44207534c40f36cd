"""In a notebook cell, where an event loop is running: the engine works, Ctrl+C leaves nothing behind, breakpoints stop.

A real ipykernel, driven through its channels as a front end would; no browser.
"""

import asyncio
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable import Context, Engine
from tests.support.kernel import Kernel
from tests.support.patience import patient
from tests.support.processes import eventually

DEFINITIONS = """
import asyncio, pathlib, threading, time
from durable import Context, Engine, current_step

effects = []

def double(n: int) -> int:
    effects.append(f"double {n}")
    return n * 2

async def double_later(n: int) -> int:
    effects.append(f"double {n} later")
    await asyncio.sleep(0)
    return n * 2

def sync_workflow(ctx: Context, n: int) -> int:
    one = ctx.step(double, n)
    two = ctx.submit(double, one)
    three = ctx.step(double_later, two.result())
    return sum(ctx.map(double, [three])) + ctx.branch(branch, 1).result()

def branch(ctx: Context, n: int) -> int:
    return ctx.step(double, n)

async def async_workflow(ctx: Context, n: int) -> int:
    one = await ctx.submit(double, n)
    two = await ctx.submit(double_later, one)
    three, four = await asyncio.gather(ctx.submit(double_later, two), ctx.branch(async_branch, 1))
    return three * 2 + four

async def async_branch(ctx: Context, n: int) -> int:
    return await ctx.submit(double, n)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    try:
        assert kernel.run(DEFINITIONS).error is None
        yield kernel
    finally:
        kernel.shut_down()


@pytest.fixture
def engine(kernel: Kernel, tmp_path: Path) -> Iterator[str]:
    """`engine` in the kernel, on a new file, with no effects so far."""
    opened = kernel.run(f"engine = Engine({str(tmp_path / 'workflow.db')!r}); effects.clear()")
    assert opened.error is None, opened.text
    yield "engine"
    closed = kernel.run("engine.close()")
    assert closed.error is None, closed.text


CALLS = [
    'engine.run("wf", {workflow}, 5)',
    'engine.start("wf", {workflow}, 5).result()',
    'await engine.start("wf", {workflow}, 5)',
    'await asyncio.wait_for(engine.start("wf", {workflow}, 5), 30)',
    '(await asyncio.gather(engine.start("wf", {workflow}, 5), engine.start("other", {workflow}, 6)))[0]',
]


@pytest.mark.parametrize("workflow", ["sync_workflow", "async_workflow"])
@pytest.mark.parametrize("call", CALLS)
def test_every_way_to_run_a_workflow_works_in_a_cell(kernel: Kernel, engine: str, call: str, workflow: str) -> None:
    cell = kernel.run(call.format(workflow=workflow))
    again = kernel.run(call.format(workflow=workflow))

    assert (cell.error, cell.text) == (None, "82")
    assert (again.error, again.text) == (None, "82")
    assert kernel.value("[step.status for step in engine.steps('wf')]") == str(
        ["completed"] * (5 if workflow[0] == "s" else 4)
    )
    assert kernel.value("effects.count('double 5')") == "1"


def test_the_cell_goes_on_with_its_own_event_loop_while_a_workflow_runs(kernel: Kernel, engine: str) -> None:
    cell = kernel.run(
        """
may_end = threading.Event()

def wait_for_the_cell() -> bool:
    return may_end.wait(30)

def waiting(ctx: Context) -> bool:
    return ctx.step(wait_for_the_cell)

task = asyncio.ensure_future(asyncio.wait_for(engine.start("wf", waiting), 30))
await asyncio.sleep(0)
may_end.set()
print(await task)
"""
    )

    assert (cell.error, cell.text) == (None, "True\n")


# ---- Ctrl+C, or the square button

INTERRUPTED = """
is_first = True

def before() -> str:
    effects.append("before")
    return "before"

def in_flight() -> str:
    effects.append("in flight")
    if is_first:
        print("in flight", flush=True)
        time.sleep(60)
    return "in flight"

async def in_flight_later() -> str:
    effects.append("in flight")
    if is_first:
        await asyncio.sleep(60)
    return "in flight"

def after() -> str:
    effects.append("after")
    return "after"

def stopped(ctx: Context) -> str:
    ctx.step(before)
    ctx.step(in_flight)
    return ctx.step(after)

def stopped_in_async_step(ctx: Context) -> str:
    ctx.step(before)
    ctx.step("in_flight", in_flight_later)
    return ctx.step(after)

async def stopped_async(ctx: Context) -> str:
    await ctx.submit(before)
    await ctx.submit("in_flight", in_flight_later)
    return await ctx.submit(after)

def stopped_in_its_own_code(ctx: Context) -> str:
    ctx.step(before)
    in_flight()
    return ctx.step(after)
"""


@pytest.mark.parametrize(
    ("workflow", "call"),
    [
        ("stopped", 'engine.run("wf", stopped)'),
        ("stopped_in_its_own_code", 'engine.run("wf", stopped_in_its_own_code)'),
    ],
)
def test_interrupting_the_kernel_in_a_step_leaves_nothing_behind(
    kernel: Kernel, engine: str, workflow: str, call: str
) -> None:
    assert kernel.run(INTERRUPTED).error is None
    interrupts: list[str] = []

    def interrupt(text: str) -> None:
        if "in flight" in text and not interrupts:
            interrupts.append(text)
            kernel.manager.interrupt_kernel()

    cell = kernel.run(call, on_text=interrupt)

    assert cell.error == "KeyboardInterrupt", cell.text
    assert kernel.value("effects") == "['before', 'in flight']"
    assert kernel.value("engine.owner('wf')") == "None"
    assert kernel.value("[run.ended for run in engine.runs('wf')]") == "['interrupted']"
    assert kernel.value("[step.status for step in engine.steps('wf')][:1]") == "['completed']"
    assert kernel.value("sorted({step.output for step in engine.steps('wf') if step.name == 'in_flight'})") in (
        "[]",
        "[None]",
    )

    again = kernel.run(f"is_first = False\n{call}")

    assert (again.error, again.text) == (None, "'after'")
    assert kernel.value("effects") == "['before', 'in flight', 'in flight', 'after']"


WATCH = """
import os, sys, traceback
engine.close()

def is_waiting() -> bool:
    # whether the main thread is where the cell waits: in the C code of a lock, or back in its event loop
    main = traceback.extract_stack(sys._current_frames()[threading.main_thread().ident])
    return main[-1].name in ("let_through", "select")

def tell_when_in_flight(moment):
    if moment.step_name == "in_flight" and moment.name == "step.started" and is_first:
        while not is_waiting():
            time.sleep(0)
        with open({fifo!r}, "w") as pipe:
            pipe.write("now")

engine = Engine({path!r}, observers=[tell_when_in_flight])
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes to synchronise by")
@pytest.mark.parametrize(
    "call",
    [
        'engine.run("wf", stopped_in_async_step)',
        'engine.run("wf", stopped_async)',
        'engine.start("wf", stopped_async).result()',
        'await engine.start("wf", stopped_async)',
    ],
)
def test_interrupting_the_kernel_in_an_async_step_leaves_nothing_behind(
    kernel: Kernel, engine: str, tmp_path: Path, call: str
) -> None:
    fifo = tmp_path / "in flight"
    os.mkfifo(fifo)
    watched = kernel.run(INTERRUPTED + WATCH.format(fifo=str(fifo), path=str(tmp_path / "workflow.db")))
    assert watched.error is None, watched.text

    def interrupt_when_told() -> None:
        fifo.read_text()
        kernel.manager.interrupt_kernel()
        kernel.waker.kernel_info()

    threading.Thread(target=interrupt_when_told, daemon=True).start()
    cell = kernel.run(call)

    assert cell.error in ("KeyboardInterrupt", "CancelledError"), cell.text
    eventually(lambda: kernel.value("engine.owner('wf')") == "None")  # a cancelled cell does not wait for the end
    assert kernel.value("[run.ended for run in engine.runs('wf')]") == "['interrupted']"
    assert kernel.value("[(step.name, step.status) for step in engine.steps('wf')]") == (
        "[('before', 'completed'), ('in_flight', 'running')]"
    )

    again = kernel.run(f"is_first = False\n{call}")

    assert (again.error, again.text) == (None, "'after'")
    assert kernel.value("[e for e in effects if e != 'in flight']") == "['before', 'after']"


WAITING = """
import os
engine.close()
engine = Engine({path!r})

def say_when_waiting() -> None:
    while not engine.find_workflow("wf") or not any(step.status == "running" for step in engine.steps("wf")):
        time.sleep(0.001)
    with open({fifo!r}, "w") as pipe:
        pipe.write("now")

def news(ctx: Context) -> str:
    ctx.step(double, 1)
    return ctx.wait_event("news")

async def news_async(ctx: Context) -> str:
    await ctx.submit(double, 1)
    return await ctx.event("news")

threading.Thread(target=say_when_waiting, daemon=True).start()
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes to synchronise by")
@pytest.mark.parametrize(
    "call",
    ['engine.run("wf", news)', 'engine.run("wf", news_async)', 'engine.start("wf", news).result()'],
)
def test_interrupting_the_kernel_while_a_workflow_waits_ends_the_wait_at_once(
    kernel: Kernel, engine: str, tmp_path: Path, call: str
) -> None:
    fifo = tmp_path / "waiting"
    os.mkfifo(fifo)

    def interrupt_when_told() -> None:
        fifo.read_text()
        kernel.manager.interrupt_kernel()
        kernel.waker.kernel_info()

    threading.Thread(target=interrupt_when_told, daemon=True).start()
    cell = kernel.run(WAITING.format(fifo=str(fifo), path=str(tmp_path / "workflow.db")) + call)

    assert cell.error == "KeyboardInterrupt", cell.text
    assert kernel.value("engine.owner('wf')") == "None"
    assert kernel.value("[run.ended for run in engine.runs('wf')]") == "['interrupted']"

    again = kernel.run(f"engine.send('wf', 'news', 'today')\n{call}")

    assert (again.error, again.text) == (None, "'today'")


# ---- breakpoint()

# Where debugpy is installed, ipykernel has it take breakpoint() over, for the debugger of the front end; without that
# one attached, it stops nowhere at all. So Python's own debugger is asked for, which talks through the cell.
OWN_DEBUGGER = "import sys; sys.breakpointhook = sys.__breakpointhook__"
STOPPING = """
def stopping_step(employee: str) -> str:
    laptop = employee + "'s laptop"
    breakpoint()
    return laptop

def stopping_workflow(ctx: Context, name: str) -> str:
    employee = name.title()
    breakpoint()
    laptop = ctx.step(stopping_step, employee)
    return laptop
"""


@pytest.mark.parametrize(
    "call",
    [
        'engine.run("wf", stopping_workflow, "jane")',
        'engine.start("wf", stopping_workflow, "jane").result()',
        'await engine.start("wf", stopping_workflow, "jane")',
    ],
)
def test_a_breakpoint_in_a_workflow_and_in_a_step_stops_where_it_stands(kernel: Kernel, engine: str, call: str) -> None:
    assert kernel.run(STOPPING + OWN_DEBUGGER).error is None

    cell = kernel.run(call, answers=["p employee", "p ctx.workflow_id", "c", "p laptop", "c"])

    assert cell.error is None, cell.text
    assert cell.prompts == ["ipdb> "] * 5
    order = ["stopping_workflow", "'Jane'", "'wf'", "stopping_step", '"Jane\'s laptop"']
    text = _without_colours(cell.text)
    places = [text.index(f"{what}()" if what.startswith("stopping") else f"{what}\n") for what in order]
    assert places == sorted(places)
    assert text.rstrip().endswith('"Jane\'s laptop"')
    assert kernel.value("[step.status for step in engine.steps('wf')]") == "['completed']"


def test_after_leaving_the_debugger_the_same_id_can_be_run_at_once(kernel: Kernel, engine: str) -> None:
    assert kernel.run(STOPPING + OWN_DEBUGGER).error is None

    left = kernel.run('engine.run("wf", stopping_workflow, "jane")', answers=["c", "q"])
    again = kernel.run('engine.run("wf", stopping_workflow, "jane")', answers=["c", "c"])

    assert len(left.prompts) == 2
    assert kernel.value("engine.owner('wf')") == "None"
    assert (again.error, again.text.rstrip().endswith('"Jane\'s laptop"')) == (None, True)


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


SCRIPT = f"""
import sys
from durable import Context, Engine
{STOPPING}
if __name__ == "__main__":
    with Engine(sys.argv[1]) as engine:
        print("result:", engine.run("wf", stopping_workflow, "jane"))
"""
TYPED = b"p employee\nc\np laptop\nc\n"


@pytest.mark.parametrize("stdin", ["a pipe", "a terminal"])
def test_a_breakpoint_in_a_script_stops_where_it_stands(tmp_path: Path, stdin: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", "workflow.db"]
    if stdin == "a pipe":
        script = subprocess.run(
            command, cwd=tmp_path, input=TYPED, capture_output=True, timeout=patient(60), check=False
        )
        code, said = script.returncode, (script.stdout + script.stderr).decode()
    else:
        code, said = _run_in_terminal(command, tmp_path, TYPED)

    assert code == 0, said
    assert said.index("stopping_workflow()") < said.index("'Jane'") < said.index("stopping_step()")
    assert said.index("stopping_step()") < said.index('"Jane\'s laptop"') < said.index("result: Jane's laptop")


def _run_in_terminal(command: list[str], folder: Path, typed: bytes) -> tuple[int, str]:
    """Run it with a terminal of its own, in which each line is typed when the debugger asks."""
    ours, its = pty.openpty()
    child = subprocess.Popen(command, cwd=folder, stdin=its, stdout=its, stderr=its, env=os.environ | {"TERM": "dumb"})
    os.close(its)
    said, lines = b"", typed.splitlines(keepends=True)
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the child has closed the terminal
            break
        if not part:
            break
        said += part
        if said.endswith(b"(Pdb) ") and lines:
            os.write(ours, lines.pop(0))
    os.close(ours)
    return child.wait(timeout=patient(60)), said.decode()


# ---- the same without a kernel: a plain event loop


def test_a_sync_run_works_inside_a_running_event_loop(tmp_path: Path) -> None:
    async def later(n: int) -> int:
        await asyncio.sleep(0)
        return n * 2

    def workflow(ctx: Context) -> int:
        return ctx.step(later, 3) + ctx.submit(later, 4).result()

    async def async_workflow(ctx: Context) -> int:
        return await ctx.submit(later, 5)

    async def cell() -> list[int]:
        with Engine(tmp_path / "workflow.db") as engine:
            return [
                engine.run("a", workflow),
                engine.run("b", async_workflow),
                engine.start("c", async_workflow).result(),
                await engine.start("d", workflow),
                await engine.start("e", async_workflow),
            ]

    assert asyncio.run(cell()) == [14, 10, 10, 14, 10]
