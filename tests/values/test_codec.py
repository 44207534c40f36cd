"""The codec by itself: checksums, and errors as they are recorded."""

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable import Context, Engine, StepError
from durable.errors import DurableError, InvalidNameError, ScopeError
from durable.values.codec import checksum
from durable.values.failures import decode_error, encode_error

settings.register_profile("durable", max_examples=100, deadline=None, derandomize=True, database=None)
settings.load_profile("durable")

# ---- checksums


@given(st.text(min_size=1), st.data())
def test_a_checksum_sees_every_changed_character(text: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda character: character != text[place]))

    assert checksum("key", text) != checksum("key", text[:place] + other + text[place + 1 :])


def test_a_checksum_sees_a_value_that_moved_to_another_column() -> None:
    values = [("a", None, None), (None, "a", None), (None, None, "a"), ("a", "", ""), ("a", None, "")]

    assert len({checksum(*each) for each in values[:3]}) == 3


# ---- errors


class CardDeclinedError(Exception):
    """Built from its arguments."""

    def __init__(self, card: str, amount: int) -> None:
        super().__init__(card, amount)
        self.card, self.amount = card, amount

    def __str__(self) -> str:
        return f"{self.card} declined {self.amount}"


class FormattedError(Exception):
    """Cannot be built from what it hands on to its base."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class AdvisedError(Exception):
    """Says what to do in a note, whenever it is built."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.add_note("read the manual")


class DecoratedError(Exception):
    """Carries more than its arguments say."""


def decorated(retry_after: object) -> Exception:
    error = DecoratedError("a")
    error.retry_after = retry_after  # type: ignore[attr-defined]
    return error


class UnreducibleError(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no parts")


@dataclasses.dataclass
class DataError(Exception):
    code: int


def json_error() -> Exception:
    try:
        json.loads("{")
    except ValueError as error:
        return error
    raise AssertionError


REBUILT: list[Exception] = [
    ValueError("a"),
    ValueError(),
    ValueError("a", 1, None, [True, {"b": 2.5}]),
    KeyError("k"),
    OSError(2, "No such file or directory", "x.txt"),
    FileNotFoundError(2, "gone"),
    TimeoutError(),
    ZeroDivisionError("division by zero"),
    json_error(),
    CardDeclinedError("visa", 7),
    AdvisedError("jam"),
    AssertionError("\u00e9\U0001f984\0"),
    StopIteration(3),
    decorated(3),
    StepError("shop:Declined", "no"),
    FormattedError(404, "gone"),
    ValueError((1, 2)),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    UnreducibleError("a"),
]
REPLACED: list[tuple[Exception, str]] = [
    (type("Local", (Exception,), {"__module__": "nowhere"})("a"), "a"),
    (type("Local", (Exception,), {"__qualname__": "type_name.<locals>.Local"})("a"), "a"),
]


def outcomes(folder: Path, error: Exception) -> list[BaseException]:
    """What a workflow that asks twice gets for a step's error: in the first run, and in a replay."""
    seen: list[BaseException] = []

    def step() -> None:
        raise error

    def workflow(ctx: Context) -> None:
        try:
            ctx.step(step)
        except Exception as caught:
            seen.append(caught)
        if len(seen) == 1:
            raise KeyboardInterrupt

    with Engine(folder / "workflow.db", synchronous="off") as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("wf", workflow)
        engine.run("wf", workflow)
        assert [found.status for found in engine.steps("wf")] == ["failed"]
    return seen


def alike(error: BaseException) -> tuple[Any, ...]:
    return (
        type(error),
        str(error),
        getattr(error, "__notes__", []),
        {k: v for k, v in vars(error).items() if k != "__notes__"},
    )


@pytest.mark.parametrize("error", REBUILT, ids=lambda error: type(error).__name__)
def test_an_error_that_can_be_rebuilt_is_raised_as_its_own_class_in_every_run(tmp_path: Path, error: Exception) -> None:
    error.add_note("a note")

    first, replayed = outcomes(tmp_path, error)

    assert first is not error
    assert alike(first) == alike(replayed) == alike(error)
    assert first.args == replayed.args == error.args


@pytest.mark.parametrize(
    ("error", "args", "lost"),
    [
        (decorated(threading.Lock()), ("a",), "retry_after"),
        (ValueError({2}, 1), ("{2}", 1), "args[0]"),
        (ValueError([1, {2}]), ([1, "{2}"],), "args[0][1]"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_error_whose_parts_cannot_all_be_stored_keeps_its_class_and_the_others(
    tmp_path: Path, error: Exception, args: tuple[Any, ...], lost: str
) -> None:
    first, replayed = outcomes(tmp_path, error)

    assert alike(first)[1:] == alike(replayed)[1:]
    assert isinstance(first, type(error))
    assert isinstance(replayed, type(error))
    assert (first.args, str(first)) == (args, str(error))
    assert first.__notes__ == [f"recorded without {lost}, which JSON cannot hold; handle it within the step"]


@pytest.mark.parametrize(("error", "message"), REPLACED, ids=[type(error).__name__ + m[:6] for error, m in REPLACED])
def test_an_error_that_cannot_be_rebuilt_is_a_step_error_that_names_it_in_every_run(
    tmp_path: Path, error: Exception, message: str
) -> None:
    first, replayed = outcomes(tmp_path, error)

    assert isinstance(first, StepError)
    assert alike(first) == alike(replayed)
    assert first.type_name == f"{type(error).__module__}:{type(error).__qualname__}"
    assert message in first.message
    assert type(error).__qualname__ in str(first)


def test_a_dataclass_as_an_error_comes_back_the_same_in_every_run(tmp_path: Path) -> None:
    first, replayed = outcomes(tmp_path, DataError(7))

    assert alike(first) == alike(replayed)


def test_the_first_run_sees_where_the_error_came_from() -> None:
    def fail() -> None:
        raise ValueError("here")

    try:
        fail()
    except ValueError as error:
        record = encode_error(error)

    assert "in fail" in record
    assert alike(decode_error(record)) == alike(ValueError("here"))


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_is_no_outcome(tmp_path: Path, raised: type[BaseException]) -> None:
    effects: list[str] = []

    def step() -> int:
        effects.append("step")
        if len(effects) == 1:
            raise raised
        return 7

    def workflow(ctx: Context) -> int:
        return ctx.step(step)

    with Engine(tmp_path / "workflow.db") as engine:
        with pytest.raises(raised):
            engine.run("wf", workflow)
        assert [(found.status, found.error) for found in engine.steps("wf")] == [("running", None)]
        assert engine.run("wf", workflow) == 7


@pytest.mark.parametrize(
    "error",
    [InvalidNameError("mine"), ScopeError("mine"), DurableError("mine")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_ours_raised_by_a_step_of_the_users_is_an_outcome_and_tried_anew(
    tmp_path: Path, error: Exception
) -> None:
    effects: list[str] = []

    def step() -> int:
        effects.append("step")
        if len(effects) == 1:
            raise error
        return 7

    def workflow(ctx: Context) -> int:
        return ctx.step(step)

    with Engine(tmp_path / "workflow.db") as engine:
        with pytest.raises(DurableError, match="mine"):
            engine.run("wf", workflow)
        assert engine.workflow("wf").status == "failed"
        assert engine.run("wf", workflow) == 7
