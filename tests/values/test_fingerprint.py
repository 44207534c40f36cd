"""Fingerprints: the arguments of a call as text, and how it is compared with an older one."""

import dataclasses
import functools
import math
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import attrs
import msgspec
import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.formats import Format
from durable.values.fingerprint import (
    fingerprint,
    fingerprint_of_call,
    first_version,
    is_same_call,
    second_version,
)

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    YES = "yes"


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Text(str):
    """A string of another type."""

    __slots__ = ()


class Number(int):
    """An int of another type."""


@pytest.mark.parametrize(
    ("args", "kwargs", "shown"),
    [
        ((), {}, "[]"),
        ((1, "a", None, True, 1.5), {}, '[1,"a",null,true,1.5]'),
        (("a",), {"b": 2, "a": 1}, '["a"]{"a":1,"b":2}'),
        ((), {"x": [1]}, '[]{"x":[1]}'),
        (({3, 1, 2},), {}, "[[1,2,3]]"),
        (
            (UUID(int=0), datetime(2026, 1, 1, tzinfo=UTC)),
            {},
            '["00000000-0000-0000-0000-000000000000","2026-01-01T00:00:00Z"]',
        ),
        ((threading.Lock(), 7), {}, '2:["<lock: not compared>",7]'),
        ((math.nan, [-math.inf]), {}, '2:["nan",["-inf"]]'),
        ((Level.HIGH, {Level.LOW: Word.YES}), {}, '2:["HIGH",[["LOW","YES"]]]'),
        (
            (Path("a/b"), 1j, Fraction(1, 3), range(2), deque("ab"), Counter("aab")),
            {},
            '2:["a/b","1j","1/3",[0,1],["a","b"],{"a":2,"b":1}]',
        ),
        (({(1, 2): "a"}, {2: "b", 1: "a"}), {}, '2:[[[[1,2],"a"]],[[1,"a"],[2,"b"]]]'),
        (({Pair(2), Pair(1)}, Text("a"), Number(1)), {}, '2:[[{"left":1},{"left":2}],"a",1]'),
        (("\ud800",), {}, None),
    ],
)
def test_a_fingerprint_is_json_that_people_can_read(args: Any, kwargs: Any, shown: str | None) -> None:
    assert fingerprint(args, kwargs) == shown


@pytest.mark.thorough
@given(st.lists(plain, max_size=3).map(tuple), st.dictionaries(st.text(), plain, max_size=3))
def test_a_fingerprint_is_the_same_for_equal_arguments_and_short(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    shuffled = dict(reversed(kwargs.items()))

    shown = fingerprint(args, kwargs)

    assert shown == fingerprint(args, shuffled)
    assert shown is not None
    assert len(shown) <= 140


@given(st.text(min_size=200), st.text(min_size=1))
def test_long_arguments_that_differ_anywhere_have_other_fingerprints(text: str, more: str) -> None:
    assert len({fingerprint((text + more,), {}), fingerprint((text,), {}), fingerprint((more + text, 1), {})}) == 3


@pytest.mark.thorough
def test_a_fingerprint_does_not_depend_on_the_process() -> None:
    arguments = "({'a', 'b', 'c', 'd'}, frozenset('xyz')), {'k': {'p', 'q'}}"
    code = f"from durable.values.fingerprint import fingerprint; print(fingerprint({arguments}))"
    shown = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert shown == {'[["a","b","c","d"],["x","y","z"]]{"k":["p","q"]}\n'}


# ---- fields


@dataclasses.dataclass
class Plain:
    number: int
    note: str = ""
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class Slotted:
    number: int
    note: str = ""
    tags: list[str] = dataclasses.field(default_factory=list)


class Struct(msgspec.Struct):
    number: int
    note: str = ""
    tags: list[str] = []


@attrs.define
class Defined:
    number: int
    note: str = ""
    tags: list[str] = attrs.field(factory=list)


class Model(pydantic.BaseModel):
    number: int
    note: str = ""
    tags: list[str] = pydantic.Field(default_factory=list)


class Named(NamedTuple):
    number: int
    note: str = ""
    tags: tuple[str, ...] = ()


KINDS = [Plain, Slotted, Struct, Defined, Model, Named]


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_that_equals_its_default_is_left_out(kind: Any) -> None:
    assert fingerprint((kind(number=7),), {}) == fingerprint((kind(number=7, note=""),), {})
    assert describe_content(kind(number=7)) == '[{"number":7}]'
    assert describe_content(kind(number=7, note="x")) == '[{"number":7,"note":"x"}]'
    assert describe_content({"within": [kind(number=7)]}) == '[{"within":[{"number":7}]}]'


def describe_content(value: Any) -> str:
    found = fingerprint((value,), {})
    assert found is not None
    return found.removeprefix("2:")


@pytest.mark.parametrize("kind", [Plain, Slotted, Struct, Defined, Model])
def test_a_container_that_equals_what_a_factory_makes_is_left_out(kind: Any) -> None:
    assert describe_content(kind(number=7, tags=["a"])) == '[{"number":7,"tags":["a"]}]'


def test_a_default_of_another_type_is_no_default() -> None:
    @dataclasses.dataclass
    class Flags:
        wide: bool = False
        parts: tuple[int, ...] = ()

    assert describe_content(Flags()) == "[{}]"
    assert describe_content(Flags(0, [])) == '[{"wide":0,"parts":[]}]'  # type: ignore[arg-type]


def test_a_factory_that_counts_is_not_called() -> None:
    numbers = iter(range(10))

    @dataclasses.dataclass
    class Ticket:
        number: int = dataclasses.field(default_factory=lambda: next(numbers))

    ticket = Ticket()
    fingerprint((ticket,), {})

    assert (ticket.number, next(numbers)) == (0, 1)


# ---- frames and arrays

FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
FRAMES: list[tuple[str, Any, Any]] = [
    ("a value", FRAME, FRAME.assign(a=[1, 3])),
    ("a missing value", FRAME, FRAME.assign(b=["x", "None"])),
    ("a type", FRAME, FRAME.astype({"a": "int32"})),
    ("the name of a column", FRAME, FRAME.rename(columns={"a": "c"})),
    ("the order of columns", FRAME, FRAME[["b", "a"]]),
    ("the index", FRAME, FRAME.set_axis([0, 2], axis=0)),
    ("the name of the index", FRAME, FRAME.rename_axis("n")),
    ("a time zone", pd.DataFrame({"t": pd.date_range("2026", periods=2, tz="UTC")}),
        pd.DataFrame({"t": pd.date_range("2026", periods=2, tz="Europe/Berlin")})),
    ("a nanosecond", pd.Timestamp(1), pd.Timestamp(2)),
    ("an interval", pd.Interval(0, 1), pd.Interval(0, 2)),
    ("a category", pd.Series(["a", "b"], dtype="category"),
        pd.Series(pd.Categorical(["a", "b"], categories=["b", "a"]))),
    ("what is nullable", pd.Series([1, None], dtype="Int64"), pd.Series([1, 2], dtype="Int64")),
    ("an object in a cell", pd.Series([[1], {"x": 1}]), pd.Series([[1], {"x": 2}])),
    ("NaN and None in cells", pd.Series([1, None], dtype=object), pd.Series([1, math.nan], dtype=object)),
    ("the name of a series", pd.Series([1], name="a"), pd.Series([1], name="b")),
    ("what is noted", noted := FRAME.copy(), FRAME),
    ("a level of the index", pd.MultiIndex.from_tuples([(1, 2)]), pd.MultiIndex.from_tuples([(1, 3)])),
    ("an array", np.array([1, 2]), np.array([1, 3])),
    ("the shape of an array", np.zeros((2, 3)), np.zeros((3, 2))),
    ("the type of an array", np.zeros(2), np.zeros(2, "float32")),
    ("an array of objects", np.array([1, "a"], dtype=object), np.array([1, "b"], dtype=object)),
    ("NaN in an array", np.array([math.nan]), np.array([0.0])),
    ("a scalar", np.float64(1.5), np.float64(2.5)),
    ("the type of a scalar", np.int64(1), np.int32(1)),
]  # fmt: skip
noted.attrs["source"] = "x"


@pytest.mark.parametrize(("value", "other"), [case[1:] for case in FRAMES], ids=[case[0] for case in FRAMES])
def test_frames_and_arrays_are_compared_by_content(value: Any, other: Any) -> None:
    copied = value.copy() if hasattr(value, "copy") else value

    assert fingerprint((value,), {}) == fingerprint((copied,), {}) != fingerprint((other,), {})
    assert "not compared" not in str(fingerprint((value,), {}))


# ---- what a function is bound to


def charge(amount: int, account: str = "") -> None:
    pass


class Client:
    def charge(self, amount: int) -> None:
        pass

    @classmethod
    def make(cls, amount: int) -> None:
        pass


@dataclasses.dataclass
class Order:
    number: int

    def pay(self, amount: int) -> None:
        pass

    def __call__(self, amount: int) -> None:
        pass


BOUND: list[tuple[str, Callable[..., Any], str]] = [
    ("an argument", functools.partial(charge, 5), "[5,1]"),
    ("a keyword", functools.partial(charge, account="a"), '[1]{"account":"a"}'),
    (
        "partials within each other",
        functools.partial(functools.partial(charge, 5), account="a"),
        '[5,1]{"account":"a"}',
    ),
    ("an object without content", Client().charge, '2:["<Client: not compared>",1]'),
    ("an object with content", Order(7).pay, '[{"number":7},1]'),
    ("an object within a partial", functools.partial(Order(7).pay, 2), '[{"number":7},2,1]'),
    ("an object that is called", Order(7), '[{"number":7},1]'),
    ("a class", Client.make, "[1]"),
    ("a class that is called", Order, "[1]"),
    ("a function", charge, "[1]"),
]


@pytest.mark.parametrize(("fn", "shown"), [case[1:] for case in BOUND], ids=[case[0] for case in BOUND])
def test_what_a_function_is_bound_to_is_told_like_an_argument(fn: Callable[..., Any], shown: str) -> None:
    assert fingerprint_of_call(fn, (1,), {}) == shown


# ---- formats


class Opaque:
    """Has no fields, and a format."""

    def __init__(self, number: int) -> None:
        self.number = number


class OpaqueFormat(Format):
    name = "opaque/1"

    def dump(self, value: Any) -> tuple[Any, tuple[()]]:
        return {"number": value.number}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        return Opaque(head["number"])


Opaque.__durable_format__ = OpaqueFormat()  # type: ignore[attr-defined]


def test_a_value_is_compared_by_its_format() -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    shown = [fingerprint((each,), {}) for each in (Opaque(1), Opaque(1), Opaque(2), frame, frame.copy())]

    assert shown[0] == shown[1] != shown[2]
    assert str(shown[2]).startswith('3:["<opaque/1: {\\"number\\":2} #')
    assert str(shown[3]).startswith('3:["<frame/1: 2 rows x 1 columns: a int64 #')
    assert shown[3] == shown[4] != fingerprint((frame.set_flags(allows_duplicate_labels=False),), {})


def test_a_changed_cell_is_another_argument_and_so_is_one_of_version_2() -> None:
    frame, other = pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]})

    for recorded in (fingerprint((frame,), {}), f"2:{second_version((frame,), {})}"):
        assert is_same_call(recorded, fingerprint((frame.copy(),), {}), (frame.copy(),), {})
        assert not is_same_call(recorded, fingerprint((other,), {}), (other,), {})


def test_a_frame_that_cannot_be_stored_is_still_compared_by_content() -> None:
    shown = [fingerprint((pd.Series(pd.arrays.SparseArray([0, n])),), {}) for n in (1, 1, 2)]

    assert shown[0] == shown[1] != shown[2]
    assert "not compared" not in str(shown[0])


# ---- older fingerprints

LOCK = threading.Lock()
OLDER: list[tuple[str, Any, tuple[Any, ...]]] = [
    ("an object without content", '["<no JSON form>",7]', (LOCK, 7)),
    ("a default", '[{"number":7,"note":"","tags":[]}]', (Plain(7),)),
    ("fields that are new since", '[{"number":7}]', (Struct(7),)),
    ("an enum", "[2]", (Level.HIGH,)),
    ("a tuple with names", '[[1,"r"]]', (Pair(1),)),
    ("an array", '["<no JSON form>"]', (np.zeros(2),)),
    ("an array in version 2", '2:["<ndarray 2 #cc582e77bce24c61>",7]', (np.array([1, 2], "int32"), 7)),
    ("a scalar in version 2", '2:["<float64 1.5>"]', (np.float64(1.5),)),
    ("what version 2 did not compare", '2:["<Opaque: not compared>"]', (Opaque(1),)),
    ("none", None, (1,)),
]


@pytest.mark.parametrize(("recorded", "args"), [case[1:] for case in OLDER], ids=[case[0] for case in OLDER])
def test_a_fingerprint_of_the_first_version_is_compared_by_that_version(recorded: Any, args: tuple[Any, ...]) -> None:
    assert is_same_call(recorded, fingerprint(args, {}), args, {})


def test_a_fingerprint_of_the_first_version_does_not_tell_what_a_partial_binds() -> None:
    fn = functools.partial(charge, 5)

    assert is_same_call("[1]", fingerprint_of_call(fn, (1,), {}), (1,), {})
    assert not is_same_call("[2]", fingerprint_of_call(fn, (1,), {}), (1,), {})


@pytest.mark.parametrize("args", [(2,), (Plain(8),), (Plain(7, "x"),), (Client(),)])
def test_a_fingerprint_of_other_arguments_is_another_in_both_versions(args: tuple[Any, ...]) -> None:
    earlier = Plain(7, ""), LOCK

    for recorded in (first_version(earlier, {}), fingerprint(earlier, {})):
        assert not is_same_call(recorded, fingerprint(args, {}), args, {})
