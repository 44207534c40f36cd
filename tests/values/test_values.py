"""Values: what steps, workflows and callers hand over comes back equal and of the same type, or is refused by name.

Each kind of value travels three ways at once (a workflow's argument, a step's result, the workflow's result), and is
looked at in the first run, in a replay, and as the recorded result of the completed workflow.
"""

import asyncio
import concurrent.futures
import dataclasses
import enum
import functools
import itertools
import math
import numbers
import os
import re
import sys
import threading
import typing
from collections import Counter, OrderedDict, UserList, defaultdict, deque, namedtuple
from collections.abc import Callable, Coroutine, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import durable.formats
from durable import Context, Engine, SerializationError, WorkflowConflictError

settings.register_profile("durable", max_examples=30, deadline=None, derandomize=True, database=None)
settings.load_profile("durable")

NONE_GIVEN: Any = object()  # no annotation at all


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Badge(pydantic.BaseModel):
    name: str


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


@dataclasses.dataclass
class Point3(Point):
    z: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    name: str
    members: tuple[Point, ...] = ()
    tags: frozenset[str] = frozenset()
    levels: dict[Level, set[int]] = dataclasses.field(default_factory=dict)
    parent: "Team | None" = None
    due: datetime | None = None


@dataclasses.dataclass(eq=False)
class NeverEqual:
    x: int


@dataclasses.dataclass
class Doubled:
    x: int
    twice: int = dataclasses.field(init=False, compare=False)

    def __post_init__(self) -> None:
        self.twice = self.x * 2


@dataclasses.dataclass
class Growing:
    x: int

    def __post_init__(self) -> None:
        self.x += 1


@dataclasses.dataclass
class Scaled:
    parts: np.ndarray

    def __post_init__(self) -> None:
        self.parts = self.parts * 2


class Pair(NamedTuple):
    left: int
    right: str = ""


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Cat(msgspec.Struct, tag=True):
    lives: int = 9


class Cell(NamedTuple):
    value: float
    other: Any = None


class Reading(msgspec.Struct, rename="camel", tag=True, array_like=True):
    past_values: list[float]
    last: float


@dataclasses.dataclass(frozen=True, slots=True)
class Filed:
    at: Path
    other: Path | None = None


@attrs.frozen
class Seat:
    number: int
    price: float


def make_zero() -> int:
    return 0


class Open(msgspec.Struct, dict=True):
    name: str


class Dog(msgspec.Struct, tag=True, omit_defaults=True):
    name: str = ""
    friends: list[Cat] = []


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Numbers(list[int]):
    pass


Bare = namedtuple("Bare", "a b")  # noqa: PYI024 - without annotations, on purpose

integers = st.integers(-(2**63), 2**64 - 1) | st.sampled_from([0, 2**53 + 1, -(2**63), 2**63 - 1, 2**63, 2**64 - 1])
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [-0.0, 5e-324, 1.7976931348623157e308, 1e16]
)
plain = st.recursive(
    st.none() | st.booleans() | integers | floats | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
zones = st.just(UTC) | offsets.filter(lambda zone: zone.utcoffset(None) != timedelta(0))
naive = st.datetimes().map(lambda instant: instant.replace(fold=0))
aware = st.datetimes(timezones=zones).map(lambda instant: instant.replace(fold=0))
named_instants = st.datetimes(timezones=st.sampled_from(["Europe/Berlin", "America/New_York"]).map(ZoneInfo))
points = st.builds(Point, integers, floats)
teams = st.recursive(
    st.builds(Team, name=st.text()),
    lambda inner: st.builds(
        Team,
        name=st.text(),
        members=st.lists(points, max_size=3).map(tuple),
        tags=st.frozensets(st.text(), max_size=3),
        levels=st.dictionaries(st.sampled_from(Level), st.sets(integers, max_size=3)),
        parent=inner,
        due=st.none() | aware,
    ),
    max_leaves=3,
)
dogs = st.builds(Dog, st.text(), st.lists(st.builds(Cat, integers), max_size=3))

SUPPORTED: list[tuple[str, Any, st.SearchStrategy[Any]]] = [
    ("plain JSON without annotation", NONE_GIVEN, plain),
    ("plain JSON as Any", Any, plain),
    ("plain JSON as object", object, plain),
    ("None", None, st.none()),
    ("bool", bool, st.booleans()),
    ("int", int, integers),
    ("float", float, floats),
    ("str", str, st.text() | st.just('\0e\u0301\u00e9\U0001f984\u2028\x7f"\\')),
    ("a long str", str, st.integers(0, 3).map(lambda n: "\U0001f984" * 10**5 * n)),
    ("bytes", bytes, st.binary()),
    ("bytearray", bytearray, st.binary().map(bytearray)),
    ("naive datetime", datetime, naive | st.sampled_from([datetime.min, datetime.max])),  # noqa: DTZ901
    ("aware datetime", datetime, aware),
    ("date", date, st.dates()),
    ("naive time", time, st.times().map(lambda at: at.replace(fold=0))),
    ("aware time", time, st.times(timezones=zones).map(lambda at: at.replace(fold=0))),
    ("timedelta", timedelta, st.timedeltas() | st.sampled_from([timedelta.min, timedelta.max, timedelta(0)])),
    ("UUID", UUID, st.uuids(allow_nil=True)),
    ("Decimal", Decimal, st.decimals(allow_nan=False) | st.sampled_from([Decimal("-0.00"), Decimal("1E+400")])),
    ("Enum", Colour, st.sampled_from(Colour)),
    ("IntEnum", Level, st.sampled_from(Level)),
    ("StrEnum", Word, st.sampled_from(Word)),
    ("Flag", Right, st.sampled_from([Right.READ, Right.READ | Right.WRITE])),
    ("Literal", Literal["a", 1] | None, st.sampled_from(["a", 1, None])),
    ("list of any", list, st.lists(plain)),
    ("list of bool", list[bool], st.lists(st.booleans())),
    ("Sequence", Sequence[int], st.lists(integers)),
    ("tuple of any length", tuple[int, ...], st.lists(integers).map(tuple)),
    ("tuple", tuple[int, str, bool], st.tuples(integers, st.text(), st.booleans())),
    ("empty tuple", tuple[()], st.just(())),
    ("nested tuples", tuple[tuple[int, ...], list[tuple[str]]], st.tuples(st.just((1, 2)), st.just([("a",), ("b",)]))),
    ("set", set[int], st.sets(integers)),
    ("set of str", set[str], st.sets(st.text())),
    ("set of tuples", set[tuple[int, str]], st.sets(st.tuples(integers, st.text()))),
    ("set of bool and str", set[bool | str], st.sets(st.booleans() | st.text())),
    ("frozenset of dates", frozenset[date], st.frozensets(st.dates())),
    (
        "dict in its own order",
        dict[str, int],
        st.permutations(["b", "a", "c", ""]).map(lambda keys: dict.fromkeys(keys, 1)),
    ),
    ("Mapping", Mapping[str, int], st.dictionaries(st.text(), integers)),
    ("dict of int keys", dict[int, str], st.dictionaries(integers, st.text())),
    ("dict of float keys", dict[float, bool], st.dictionaries(floats, st.booleans())),
    ("dict of date keys", dict[date, None], st.dictionaries(st.dates(), st.none())),
    ("dict of enum keys", dict[Colour, list[Level]], st.just({Colour.GREEN: [Level.LOW], Colour.RED: []})),
    (
        "dict of UUID keys",
        dict[UUID, Decimal],
        st.dictionaries(st.uuids(), st.decimals(allow_nan=False, allow_infinity=False)),
    ),
    ("dataclass", Point, points),
    ("dataclass that inherits", Point3, st.builds(Point3, integers, floats, integers)),
    ("nested dataclasses", Team, teams),
    ("dataclass without equality", NeverEqual, st.builds(NeverEqual, integers)),
    ("dataclass with a computed field", Doubled, st.builds(Doubled, st.integers(-9, 9))),
    ("NamedTuple", Pair, st.builds(Pair, integers, st.text())),
    ("namedtuple of plain values", Bare, st.builds(Bare, integers, plain)),
    ("list of NamedTuples", list[Pair], st.lists(st.builds(Pair, integers))),
    ("TypedDict", Movie, st.sampled_from([Movie(title="a"), Movie(year=1, title="b")])),
    ("msgspec Struct", Dog, dogs),
    ("tagged Structs", Dog | Cat | None, dogs | st.builds(Cat, integers) | st.none()),
    (
        "NaN and infinities",
        NONE_GIVEN,
        anything := st.recursive(floats | st.sampled_from([math.nan, math.inf, -math.inf]), st.lists),
    ),
    ("NaN as float", float, st.floats()),
    ("NaN as optional", float | None, st.floats()),
    ("NaN as object", object, anything),
    ("list of float", list[float], st.lists(st.floats())),
    ("set of float", set[float], st.sets(st.floats())),
    ("dict of float values", dict[int, float], st.dictionaries(integers, st.floats())),
    ("dataclass with NaN", Point, st.builds(Point, integers, st.floats())),
    ("NamedTuple with NaN", Cell, st.builds(Cell, st.floats(), st.none() | st.floats())),
    ("Struct with NaN", Reading, st.builds(Reading, st.lists(st.floats()), st.floats())),
    ("Decimal NaN", Decimal, st.sampled_from([Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity")])),
    ("complex", complex, st.complex_numbers()),
    ("complex without annotation", NONE_GIVEN, st.complex_numbers()),
    ("Fraction", Fraction, st.fractions()),
    ("range", range, st.builds(range, st.integers(), st.integers(), st.integers(1, 9))),
    ("slice", NONE_GIVEN, st.slices(9)),
    ("path", Path, st.text("ab/. ").map(Path)),
    (
        "path of another system",
        NONE_GIVEN,
        st.lists(st.sampled_from(["a", "b c"])).map(lambda parts: PureWindowsPath("C:/", *parts)),
    ),
    ("path or str", Path | str, st.text("ab/") | st.text("ab/").map(Path)),
    ("paths as keys", dict[Path, int], st.dictionaries(st.text("ab/").map(Path), integers)),
    ("dataclass with a path", Filed, st.builds(Filed, st.text("ab/").map(Path), st.none() | st.just(Path("c")))),
    ("Counter", Counter[str], st.lists(st.text(max_size=1)).map(Counter)),
    ("Counter without annotation", NONE_GIVEN, st.lists(st.integers() | st.tuples(st.booleans())).map(Counter)),
    ("deque", deque[int], st.lists(integers).map(lambda items: deque(items, 3))),
    ("deque without annotation", NONE_GIVEN, st.lists(plain).map(deque)),
    ("defaultdict", defaultdict[str, list[int]], st.just(defaultdict(list, a=[1]))),
    ("defaultdict without annotation", NONE_GIVEN, st.just({"a": defaultdict(make_zero, {(1, 2): 3})})),
    ("datetime in a named zone", datetime, named_instants),
    ("datetime in a named zone without annotation", NONE_GIVEN, named_instants.map(lambda at: [at])),
    ("datetime with fold", datetime, st.datetimes(allow_imaginary=True).map(lambda at: at.replace(fold=1))),
    (
        "offset with seconds or a name",
        datetime,
        st.sampled_from(
            [
                datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=3601))),
                datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")),
            ]
        ),
    ),
    ("time in a named zone", time, st.just(time(1, 2, tzinfo=ZoneInfo("Europe/Berlin")))),
    ("pydantic model", Badge, st.builds(Badge, name=st.text())),
    ("pydantic model without annotation", NONE_GIVEN, st.builds(Badge, name=st.text()).map(lambda badge: [badge])),
    ("attrs class", Seat, st.builds(Seat, integers, st.floats())),
    ("a dict that looks like a formatted value", NONE_GIVEN, st.just({"$value": 1, "format": "array/1"})),
    (
        "dicts that look like that",
        NONE_GIVEN,
        st.dictionaries(st.sampled_from(["$value", "format", "buffers"]), plain | st.just("path/1") | st.floats()),
    ),
    ("Optional", Point | None, st.none() | points),
    ("int or float", int | float, integers | floats),
    ("Union", bool | int | float | str | list[int] | None, st.none() | st.booleans() | integers | floats | st.text()),
]


def shape(value: Any) -> Any:
    """A value as nested tuples in which all counts: types all the way down, the order of dicts, -0.0, time zones."""
    kind: Any = type(value)
    if dataclasses.is_dataclass(value):
        return kind, tuple((field.name, shape(getattr(value, field.name))) for field in dataclasses.fields(value))
    if isinstance(value, msgspec.Struct):
        return kind, tuple((name, shape(getattr(value, name))) for name in value.__struct_fields__)
    if isinstance(value, dict):
        return kind, tuple((shape(key), shape(member)) for key, member in value.items())
    if isinstance(value, list | tuple):
        return kind, tuple(map(shape, value))
    if isinstance(value, set | frozenset):
        return kind, frozenset(map(shape, value))
    return kind, repr(value)


def step_that_returns(value: Any, annotation: Any = NONE_GIVEN, effects: list[str] | None = None) -> Callable[[], Any]:
    def make() -> Any:
        if effects is not None:
            effects.append("made")
        return value

    make.__annotations__ = {} if annotation is NONE_GIVEN else {"return": annotation}
    return make


class Trip:
    """A workflow that takes a value, makes it in a step and returns it; it remembers what it saw on the way."""

    def __init__(self, value: Any, annotation: Any) -> None:
        self.seen: list[Any] = []
        self.made: list[str] = []
        self.is_interrupted = False
        make = step_that_returns(value, annotation, self.made)

        def trip(ctx: Context, given: Any) -> Any:
            result = ctx.step(make)
            self.seen += [given, result]
            if self.is_interrupted:
                raise KeyboardInterrupt
            return result

        trip.__annotations__ = {} if annotation is NONE_GIVEN else {"given": annotation, "return": annotation}
        self.workflow: Callable[..., Any] = trip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("values") / "workflow.db", synchronous="off") as engine:
        yield engine


ids = map("wf_{}".format, itertools.count())


@pytest.mark.parametrize(
    ("annotation", "values"), [case[1:] for case in SUPPORTED], ids=[case[0] for case in SUPPORTED]
)
def test_a_value_comes_back_equal_and_of_the_same_type_in_every_run(
    engine: Engine, annotation: Any, values: st.SearchStrategy[Any]
) -> None:
    @given(values)
    def carry(value: Any) -> None:
        workflow_id, trip, expected = next(ids), Trip(value, annotation), shape(value)
        trip.is_interrupted = True
        with pytest.raises(KeyboardInterrupt):
            engine.run(workflow_id, trip.workflow, value)
        trip.is_interrupted = False
        trip.seen.append(engine.run(workflow_id, trip.workflow, value))  # a replay
        trip.seen.append(engine.run(workflow_id, trip.workflow, value))  # the recorded result

        assert list(map(shape, trip.seen)) == [expected] * 6
        assert trip.made == ["made"]

    carry()


def test_shape_tells_apart_what_equality_does_not() -> None:
    pairs: list[tuple[Any, Any]] = [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (Level.LOW, 1),
        (Pair(1), (1, "")),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
        (Decimal("1.0"), Decimal("1.00")),
        ({1}, {True}),
        (Point(1), Point(True)),
    ]

    assert [shape(a) == shape(b) for a, b in pairs] == [False] * len(pairs)
    assert all(a == b for a, b in pairs)


def test_an_int_for_a_float_comes_back_as_the_float_in_every_run(engine: Engine) -> None:
    trip = Trip(3, float)
    trip.is_interrupted = True
    with pytest.raises(KeyboardInterrupt):
        engine.run("widened", trip.workflow, 3)
    trip.is_interrupted = False
    engine.run("widened", trip.workflow, 3)

    assert list(map(shape, trip.seen)) == [shape(3.0)] * 4


def test_a_value_comes_back_from_submit_map_and_async_steps_as_from_step(engine: Engine) -> None:
    def double(point: Point) -> tuple[Point, ...]:
        return (point, point)

    async def double_later(point: Point) -> tuple[Point, ...]:
        await asyncio.sleep(0)
        return (point, point)

    seen: list[Any] = []

    def workflow(ctx: Context) -> None:
        point = Point(1, 2.0)
        seen.append(ctx.submit(double, point).result())
        seen.append(ctx.step(double_later, point))
        seen.append(ctx.submit(double_later, point).result())
        seen.extend(ctx.map(double, [point]))
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run("beside", workflow)
    engine.run("beside", workflow)

    assert list(map(shape, seen)) == [shape((Point(1, 2.0), Point(1, 2.0)))] * 8


def test_what_a_step_returned_may_be_changed_without_touching_the_record(engine: Engine) -> None:
    original: dict[str, list[int]] = {"a": [1]}
    make = step_that_returns(original)
    seen: list[Any] = []

    def workflow(ctx: Context) -> None:
        value = ctx.step(make)
        seen.append(value == {"a": [1]} and value is not original)
        value["a"].append(2)
        if len(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run("changed", workflow)
    engine.run("changed", workflow)

    assert seen == [True, True]
    assert original == {"a": [1]}


def test_a_workflow_sees_its_arguments_as_recorded_also_in_the_first_run(engine: Engine) -> None:
    original = [1]
    seen: list[Any] = []

    def workflow(ctx: Context, /, numbers: list[int], ratio: float, *rest: int, **named: Point) -> None:
        seen.append((numbers is not original, shape(numbers), shape(ratio), shape(rest), shape(named)))

    engine.run("arguments", workflow, original, 2, 3, 4, p=Point(5))

    assert seen == [(True, shape([1]), shape(2.0), shape((3, 4)), shape({"p": Point(5, 0.0)}))]


resumed: list[Any] = []


def many_parameters(
    ctx: Context, a: Team, /, b: set[Level], *rest: Point, c: datetime, d: float = 2.5, **more: tuple[int, ...]
) -> Pair:
    """Has a parameter of every kind."""
    resumed.append([a, b, rest, c, d, more])
    if len(resumed) == 1:
        raise KeyboardInterrupt
    return Pair(len(rest))


def test_resume_calls_the_recorded_function_with_the_recorded_arguments(engine: Engine) -> None:
    resumed.clear()
    team, due = Team(name="x", tags=frozenset("ab")), datetime(2026, 1, 1, tzinfo=UTC)
    given_arguments = [team, {Level.LOW}, (Point(1, 2.0), Point(3)), due, 2.5, {"e": (1, 2), "a": (), "more": (3,)}]

    with pytest.raises(KeyboardInterrupt):
        engine.run(
            "resumed", many_parameters, team, {Level.LOW}, Point(1, 2.0), Point(3), c=due, e=(1, 2), a=(), more=(3,)
        )
    result = engine.resume("resumed").result()

    assert list(map(shape, resumed)) == [shape(given_arguments)] * 2
    assert shape(result) == shape(Pair(2))


def test_a_workflow_may_be_what_a_decorator_makes_of_it(engine: Engine) -> None:
    def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs)

        return call

    @logged
    def workflow(_: Context, *names: str, greeting: str) -> list[str]:
        return [greeting, *names]

    workflow_id = next(ids)
    for _ in range(2):
        assert engine.run(workflow_id, workflow, "Jane", "John", greeting="hello") == ["hello", "Jane", "John"]
    assert engine.workflow(workflow_id).arguments == '{"args":["Jane","John"],"kwargs":{"greeting":"hello"}}'
    with pytest.raises(WorkflowConflictError):
        engine.run(workflow_id, workflow, "Jane", greeting="hello")


def test_equal_sets_and_dicts_are_the_same_arguments_whatever_their_order(engine: Engine) -> None:
    def workflow(_: Context, numbers: set[int], named: dict[str, int]) -> int:
        return len(numbers) + len(named)

    assert list({0, 8}) != list({8, 0})  # or this shows nothing
    engine.run("same arguments", workflow, {0, 8}, {"a": 1, "b": 2})

    assert engine.run("same arguments", workflow, {8, 0}, {"b": 2, "a": 1}) == 4


# ---- refusals


async def _coroutine() -> None:
    pass


def _closed_coroutine() -> Coroutine[Any, Any, None]:
    coroutine = _coroutine()
    coroutine.close()
    return coroutine


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def _decorated_struct() -> Open:
    struct = Open("a")
    struct.colour = "red"  # type: ignore[attr-defined]
    return struct


def _decorated_point() -> Point:
    point = Point(1)
    point.colour = "red"  # type: ignore[attr-defined]
    return point


# what, annotation, value, what the message must say of the way out
REFUSED: list[tuple[str, Any, Any, str]] = [
    ("a lock", NONE_GIVEN, threading.Lock(), "return plain data"),
    ("an int of 5,000 digits", NONE_GIVEN, 10**5000, "return it as a str"),
    ("an int past float", float, 10**400, "change one of them"),
    ("an int that float rounds", float, 2**53 + 1, "annotate"),
    ("a lone surrogate", str, "a\ud800", "errors='replace'"),
    ("a lone surrogate without annotation", NONE_GIVEN, "\udfff", "errors='replace'"),
    ("a lone surrogate as key", NONE_GIVEN, {"\ud800": 1}, "errors='replace'"),
    ("a tuple without annotation", NONE_GIVEN, (1, 2), "-> tuple[int, int]"),
    ("a tuple within a list", NONE_GIVEN, [(1, 2)], "-> list[tuple"),
    ("a set without annotation", NONE_GIVEN, {1}, "-> set[int]"),
    ("bytes without annotation", NONE_GIVEN, b"a", "-> bytes"),
    ("a datetime without annotation", NONE_GIVEN, datetime(2026, 1, 1, tzinfo=UTC), "-> datetime"),
    ("a dataclass without annotation", NONE_GIVEN, Point(1), "-> Point"),
    ("a NamedTuple without annotation", NONE_GIVEN, Pair(1), "-> Pair"),
    ("an IntEnum without annotation", NONE_GIVEN, Level.LOW, "-> Level"),
    ("a StrEnum within a dict", NONE_GIVEN, {"a": Word.YES}, "-> dict[str, Word]"),
    ("a StrEnum as key", NONE_GIVEN, {Word.YES: 1}, "-> dict[Word, int]"),
    ("int keys without annotation", NONE_GIVEN, {1: 2}, "-> dict[int, int]"),
    ("keys that fall together", dict[int | str, int], {1: 2, "1": 3}, "return a dict whose keys are all of type str"),
    ("an IntEnum as int", int, Level.LOW, "annotate"),
    ("a StrEnum as str", str, Word.YES, "annotate"),
    ("a str as int", int, "1", "change one of them"),
    ("a bool as int", int, True, "change one of them"),
    ("a bool as float", float, True, "change one of them"),
    ("an int as bool", bool, 1, "change one of them"),
    ("a float as int", int, 1.0, "change one of them"),
    ("a bool within a list of int", list[int], [True], "change one of them"),
    ("None as int", int, None, "change one of them"),
    ("a value as None", None, 1, "change one of them"),
    ("a date as datetime", datetime, date(2026, 1, 1), "change one of them"),
    ("a datetime as date", date, datetime(2026, 1, 1, tzinfo=UTC), "change one of them"),
    ("a list as tuple", tuple[int, ...], [1], "annotate"),
    ("a tuple as Sequence", Sequence[int], (1,), "annotate"),
    ("a set as frozenset", frozenset[int], {1}, "annotate"),
    ("a tuple as an unsupported Union", Point | None, (1, 2.0), "change one of them"),
    ("a dataclass as its base", Point, Point3(1), "annotate"),
    ("a dataclass as its base, within a list", list[Point], [Point3(1)], "annotate"),
    ("a NamedTuple as tuple", tuple[int, str], Pair(1), "annotate"),
    ("a tuple within a bare tuple", tuple, (1, (2,)), "annotate"),
    ("a dict with a key that a TypedDict lacks", Movie, {"title": "a", "colour": 1}, "annotate"),
    ("a dict without a key that a TypedDict needs", Movie, {}, "change one of them"),
    ("a dataclass that its own constructor changes", Growing, Growing(1), "come back as 3; have its class keep it"),
    ("a dataclass with a further attribute", Point, _decorated_point(), "make it a field"),
    ("a Struct with a further attribute", Open, _decorated_struct(), "make it a field"),
    ("a str subclass", str, Text("a"), "return it as a plain str"),
    ("an int subclass", int, Number(1), "return it as a plain int"),
    ("a list subclass", list[int], Numbers([1]), "return it as a plain list"),
    ("an OrderedDict", dict, OrderedDict(a=1), "return it as a plain dict"),
    ("a defaultdict as dict", dict[str, int], defaultdict(int, a=1), "annotate"),
    ("a coroutine", NONE_GIVEN, _closed_coroutine(), "await it"),
    ("a generator", NONE_GIVEN, (n for n in ""), "return a list of its items"),
    ("a function", NONE_GIVEN, print, "return its name"),
    ("a class", NONE_GIVEN, int, "return its name"),
    ("an exception", NONE_GIVEN, ValueError("a"), "return its text, str(error)"),
    ("a future", NONE_GIVEN, concurrent.futures.Future(), "return its .result()"),
    ("NaN as int", int, math.nan, "change one of them"),
    ("a number of numpy as another", int, np.float64(1.5), "change one of them"),
    ("a number of numpy that float rounds", float, np.int64(2**53 + 1), "annotate"),
    ("an array of objects", NONE_GIVEN, np.array([1, None]), "make it a list with .tolist()"),
    ("a masked array", np.ndarray, np.ma.array([1]), "fill it with .filled(...)"),
    ("an array that a constructor changes", Scaled, Scaled(np.arange(2)), "have its class keep it as it is"),
    (
        "a sparse series",
        NONE_GIVEN,
        pd.Series(pd.arrays.SparseArray([0, 1])),
        "make them dense with .sparse.to_dense()",
    ),
    ("a factory without a name", NONE_GIVEN, defaultdict(lambda: 1), "import it, or bring it back"),
    ("a list that holds itself", NONE_GIVEN, _cycle(), "JSON cannot hold"),
    ("a list of 100,000 levels", list, _deep(100_000), "JSON cannot hold"),
]
REFUSED_IDS = [case[0] for case in REFUSED]
INNER = {  # the type and the place of the part to blame, if that is not the value itself
    "a tuple within a list": ("tuple", "[0]"),
    "a StrEnum within a dict": ("Word", "['a']"),
    "a dataclass as its base, within a list": ("Point3", "[0]"),
    "a tuple within a bare tuple": ("tuple", "[1]"),
    "a dataclass that its own constructor changes": ("int", ".x"),
    "an array that a constructor changes": ("ndarray", ".parts"),
}


def workflow_of(make: Callable[[], Any]) -> Callable[[Context], None]:
    def workflow(ctx: Context) -> None:
        ctx.step(make)

    return workflow


@pytest.mark.parametrize(("what", "annotation", "value", "remedy"), REFUSED, ids=REFUSED_IDS)
def test_a_result_without_exact_form_is_refused_by_name_and_the_same_id_goes_on(
    engine: Engine, what: str, annotation: Any, value: Any, remedy: str
) -> None:
    workflow_id = next(ids)
    effects: list[str] = []

    with pytest.raises(SerializationError) as caught:
        engine.run(workflow_id, workflow_of(step_that_returns(value, annotation, effects)))

    kind, place = INNER.get(what, (type(value).__qualname__, ""))
    assert caught.value.type_name == kind
    assert f"step 'make_1' of {workflow_id!r}" in caught.value.subject
    assert f"step 'make_1' of {workflow_id!r}" in str(caught.value)
    assert f" {kind}{' at ' if place else ''}{place}, " in str(caught.value)
    assert remedy in str(caught.value)
    [step] = engine.steps(workflow_id)
    assert (step.status, step.output, step.error) == ("running", None, None)  # the effect has happened, as the row says
    assert engine.workflow(workflow_id).status == "running"
    assert [run.ended for run in engine.runs(workflow_id)] == ["stopped"]

    engine.run(workflow_id, workflow_of(step_that_returns([7], list[int], effects)))

    [step] = engine.steps(workflow_id)
    assert (step.status, step.output, step.attempt) == ("completed", "[7]", 2)
    assert effects == ["made", "made"]


@pytest.mark.parametrize(("what", "annotation", "value", "remedy"), REFUSED, ids=REFUSED_IDS)
def test_an_argument_without_exact_form_is_refused_before_anything_is_recorded(
    engine: Engine, what: str, annotation: Any, value: Any, remedy: str
) -> None:
    workflow_id, trip = next(ids), Trip(1, annotation)

    with pytest.raises(SerializationError) as caught:
        engine.run(workflow_id, trip.workflow, value)

    assert f"workflow {workflow_id!r}, argument 'given'" in caught.value.subject
    assert caught.value.type_name == INNER.get(what, (type(value).__qualname__, ""))[0]
    assert remedy.replace("return", "pass").replace("-> ", ": ") in str(caught.value)
    assert "return" not in str(caught.value)
    assert trip.seen == trip.made == []
    assert workflow_id not in [record.workflow_id for record in engine.workflows()]


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in REFUSED
        if case[0] in ("a lock", "an array of objects", "a tuple without annotation", "a dataclass as its base")
    ],
    ids=lambda case: str(case[0]),
)
def test_a_workflow_result_without_exact_form_is_refused_and_its_steps_are_kept(
    engine: Engine, case: tuple[str, Any, Any, str]
) -> None:
    workflow_id = next(ids)
    effects: list[str] = []
    make = step_that_returns(1, int, effects)

    def workflow_that_returns(value: Any, annotation: Any) -> Callable[[Context], Any]:
        def workflow(ctx: Context) -> Any:
            ctx.step(make)
            return value

        workflow.__annotations__ = {} if annotation is NONE_GIVEN else {"return": annotation}
        return workflow

    with pytest.raises(SerializationError) as caught:
        engine.run(workflow_id, workflow_that_returns(case[2], case[1]))

    assert caught.value.subject == f"workflow {workflow_id!r}: its result"
    assert (engine.workflow(workflow_id).status, engine.workflow(workflow_id).output) == ("running", None)

    assert engine.run(workflow_id, workflow_that_returns((1, 2), tuple[int, int])) == (1, 2)
    assert effects == ["made"]


UNANNOTATED = [case[2] for case in REFUSED if case[1] is NONE_GIVEN and case[3].startswith("->")]


@pytest.mark.parametrize(
    "value",
    [*UNANNOTATED, set(), (), {1, "a"}, {b"a": 1.5}, [{1}, {2}], {"a": {1}}],
    ids=lambda value: type(value).__name__,
)
def test_the_annotation_that_a_refusal_suggests_is_one_that_works(engine: Engine, value: Any) -> None:
    workflow_id = next(ids)
    with pytest.raises(SerializationError) as caught:
        engine.run(workflow_id, workflow_of(step_that_returns(value)))
    suggestion = str(caught.value).partition("'-> ")[2].rpartition("'")[0]

    trip = Trip(value, eval(suggestion, globals()))

    assert shape(engine.run(next(ids), trip.workflow, value)) == shape(value)


@pytest.mark.parametrize(
    ("value", "advised", "annotation"),
    [
        (OrderedDict(a=1), dict, dict[str, int]),
        ((n for n in "ab"), list, NONE_GIVEN),
        (ValueError("a"), str, NONE_GIVEN),
        (Text("a"), str, str),
        (np.array([1, None]), lambda value: value.tolist(), NONE_GIVEN),
        (np.array([1, 2], dtype=object), lambda value: value.astype(int), NONE_GIVEN),
        (np.ma.array([1]), lambda value: value.filled(0), NONE_GIVEN),
        (pd.Series(pd.arrays.SparseArray([0, 1])), lambda value: value.sparse.to_dense(), NONE_GIVEN),
        (10**5000, hex, NONE_GIVEN),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_remedy_that_a_refusal_names_is_one_that_works(
    engine: Engine, value: Any, advised: Callable[[Any], Any], annotation: Any
) -> None:
    with pytest.raises(SerializationError):
        engine.run(next(ids), workflow_of(step_that_returns(value)))

    def workflow(ctx: Context) -> Any:
        return ctx.step(step_that_returns(advised(value), annotation))

    workflow.__annotations__ = {} if annotation is NONE_GIVEN else {"return": annotation}
    stored = engine.run(next(ids), workflow)
    assert stored is not None


@dataclasses.dataclass
class Order:
    number: int
    paid_by: Any = None


@dataclasses.dataclass
class Customer:
    orders: list[Order]
    by_day: dict[str, list[Order]] = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(
    ("customer", "annotation", "told"),
    [
        (
            Customer([Order(n, None if n < 3 else ValueError("a")) for n in range(5)]),
            Customer,
            "a ValueError at .orders[3].paid_by, which has no JSON form; return its text, str(error)",
        ),
        (
            Customer([], {"monday": [Order(1), Order(2, (1, 2))]}),
            Customer,
            "a tuple at .by_day['monday'][1].paid_by, which would come back as a list under its annotation Customer",
        ),
        (
            [Pair(1, ValueError("a"))],  # type: ignore[arg-type]
            list[Pair],
            "a ValueError at [0].right, which has no JSON form; return its text, str(error)",
        ),
        (
            {"a": {ValueError("a")}},
            NONE_GIVEN,
            "a ValueError at ['a']{...}, which has no JSON form; return its text, str(error)",
        ),
        (
            Customer([Order(1, np.array([1, None]))]),
            Customer,
            "a ndarray at .orders[0].paid_by, which holds objects; give it a type",
        ),
    ],
    ids=["dataclass", "dict", "NamedTuple", "set", "array"],
)
def test_a_refusal_names_the_place_in_a_nested_value(engine: Engine, customer: Any, annotation: Any, told: str) -> None:
    with pytest.raises(SerializationError) as caught:
        engine.run(next(ids), workflow_of(step_that_returns(customer, annotation)))

    assert f": its result has {told}" in str(caught.value)


class Model:
    """As an ORM's object is one: no format is registered for it."""


@dataclasses.dataclass
class Holder:
    model: Model


@dataclasses.dataclass
class Lazy:
    number: int
    model: Model | None = None


HOPELESS: list[tuple[Any, str]] = [
    (Model, "is annotated Model, which has no JSON form; return plain data instead"),
    (Model | None, "and a Model has no JSON form; return plain data instead"),
    (list[Model], "and a Model has no JSON form; return plain data instead"),
    (dict[str, tuple[int, Model]], "and a Model has no JSON form; return plain data instead"),
    (Holder, "is annotated Holder, and a Model has no JSON form; return plain data instead"),
    (
        OrderedDict,
        "is annotated OrderedDict, which has no JSON form; return it as a plain dict(...), and annotate that",
    ),
    (OrderedDict[str, int], "return it as a plain dict(...), and annotate that"),
    (UserList, "return it as a plain list(...), and annotate that"),
    (os.PathLike, "is annotated PathLike, which has no JSON form; return str(path), and annotate that"),
    (Iterator[int], "return a list of its items, and annotate that"),
    (concurrent.futures.Future, "return its .result(), or await it first, and annotate that"),
    (ValueError, "return its text, str(error), and annotate that"),
]


@pytest.mark.parametrize(("annotation", "told"), HOPELESS, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_step_whose_type_can_never_be_stored_is_refused_before_its_effect(
    engine: Engine, annotation: Any, told: str, is_async: bool
) -> None:
    workflow_id, effects = next(ids), list[str]()
    step = step_that_returns(None, annotation, effects)
    if is_async:

        async def make() -> None:
            effects.append("made")

        make.__annotations__ = {"return": annotation}
        step = make
    for _ in range(2):
        with pytest.raises(SerializationError) as caught:
            engine.run(workflow_id, workflow_of(step))
        assert caught.value.subject == f"step 'make' of {workflow_id!r}: its result"
        assert told in str(caught.value)

    assert effects == []
    assert engine.steps(workflow_id) == []
    engine.run(workflow_id, workflow_of(step_that_returns([7], list[int], effects)))
    assert effects == ["made"]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(Lazy, Lazy(1)), (Iterable, [1]), (numbers.Number, 1.5), (Hashable, "a"), (Sequence[int], [1])],
    ids=lambda value: str(value)[:30],
)
def test_a_type_that_some_values_have_in_json_is_no_reason_to_refuse(
    engine: Engine, annotation: Any, value: Any
) -> None:
    trip = Trip(value, annotation)

    assert engine.run(next(ids), trip.workflow, value) == value


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(Model, Model()), (list[Model], [Model()]), (NONE_GIVEN, Model())],
    ids=["it", "list", "none"],
)
def test_the_pickle_that_a_refusal_of_a_class_suggests_works(engine: Engine, annotation: Any, value: Any) -> None:
    with pytest.raises(SerializationError) as caught:
        engine.run(next(ids), workflow_of(step_that_returns(value, annotation)))
    suggestion = re.findall(r"or annotate it (Annotated\[.*?\]) to have it pickled", str(caught.value))[0]
    names = {"Annotated": Annotated, "Model": Model, "durable": durable}
    asked = list[eval(suggestion, names)] if annotation == list[Model] else eval(suggestion, names)  # type: ignore[misc]

    trip = Trip(value, asked)
    engine.run(next(ids), trip.workflow, value)

    assert type(trip.seen[0]) is type(value)
    assert "see durable.formats.register" in str(caught.value)
    assert callable(durable.formats.register)


@pytest.mark.parametrize(
    "value", [threading.Lock(), ValueError("a"), type("Local", (), {"__qualname__": "f.<locals>.L"})()]
)
def test_a_class_that_pickle_cannot_find_or_store_is_not_told_of_it(engine: Engine, value: Any) -> None:
    with pytest.raises(SerializationError) as caught:
        engine.run(next(ids), workflow_of(step_that_returns(value)))

    assert "Pickled" not in str(caught.value)


def test_a_workflow_whose_result_can_never_be_stored_is_refused_before_it_begins(engine: Engine) -> None:
    begun: list[str] = []

    def workflow(_: Context) -> Model:
        begun.append("begun")
        return Model()

    with pytest.raises(SerializationError, match="its result is annotated Model, which has no JSON form"):
        engine.run("hopeless", workflow)

    assert begun == []
    assert engine.find_workflow("hopeless") is None


@pytest.mark.parametrize("annotation", [NONE_GIVEN, Any, list[int]], ids=["none", "any", "list"])
def test_a_generator_function_is_refused_as_a_step(engine: Engine, annotation: Any) -> None:
    workflow_id = next(ids)

    def items() -> Any:
        yield 1

    items.__annotations__ = {} if annotation is NONE_GIVEN else {"return": annotation}
    with pytest.raises(SerializationError, match=r"would come from a generator function.*; return a list of its items"):
        engine.run(workflow_id, workflow_of(items))

    assert engine.steps(workflow_id) == []
    assert engine.run(workflow_id, lambda_of_list(items)) == [1]


def lambda_of_list(items: Callable[[], Any]) -> Callable[[Context], Any]:
    def workflow(ctx: Context) -> Any:
        return ctx.step("items", lambda: list(items()))

    workflow.__qualname__ = "workflow_of.<locals>.workflow"  # the same workflow, repaired
    return workflow


@pytest.mark.filterwarnings("error")
def test_a_coroutine_of_a_plain_function_does_not_run_and_the_refusal_says_what_to_do(engine: Engine) -> None:
    effects: list[str] = []

    async def fetch() -> int:
        effects.append("fetched")
        return 1

    @functools.wraps(fetch)
    def wrapper() -> Any:
        return fetch()

    @functools.wraps(fetch)
    async def repaired() -> Any:
        return await fetch()

    workflow_id = next(ids)
    with pytest.raises(SerializationError, match=r"has a coroutine, .*await it within the function, .*'async def'"):
        engine.run(workflow_id, workflow_of(wrapper))

    assert effects == []
    engine.run(workflow_id, workflow_of(repaired))
    assert effects == ["fetched"]


@pytest.mark.parametrize(
    "annotation", [str | datetime, Point | Point3, dict[str, str | bytes], typing.Never, "Missing"], ids=str
)
def test_an_annotation_that_no_value_fits_is_refused_before_the_step_begins(engine: Engine, annotation: Any) -> None:
    workflow_id = next(ids)
    effects: list[str] = []

    with pytest.raises(SerializationError) as caught:
        engine.run(workflow_id, workflow_of(step_that_returns(1, annotation, effects)))

    assert "step 'make'" in caught.value.subject
    assert "; " in str(caught.value)
    assert effects == []
    assert engine.steps(workflow_id) == []


def test_an_annotation_of_what_is_not_stored_may_mention_what_only_a_type_checker_imports(engine: Engine) -> None:
    def fetch(_client: Any) -> Any:
        return {1}

    def workflow(ctx: Context) -> Any:
        return ctx.step(fetch, threading.Lock())

    fetch.__annotations__ = {"_client": "Missing", "return": "set[int]"}
    workflow.__annotations__ = {"ctx": "Missing", "return": "set[int]"}

    assert engine.run(next(ids), workflow) == {1}


@dataclasses.dataclass
class Basket:
    """Its annotations say what it holds, not what calling it returns."""

    items: tuple[str, ...]

    def __call__(self) -> tuple[str, ...]:
        return self.items


@functools.lru_cache
def cached_pair(item: str) -> tuple[str, str]:
    return item, item


class Timed:
    """A decorator that is a class, as functools asks for it to be written."""

    def __init__(self, fn: Any) -> None:
        functools.update_wrapper(self, fn)

    def __call__(self, *args: Any) -> Any:
        return self.__wrapped__(*args)  # type: ignore[attr-defined]


@Timed
def timed_pair(item: str) -> tuple[str, str]:
    return item, item


def test_what_is_called_as_a_function_is_stored_as_its_call_returns(engine: Engine) -> None:
    def workflow(ctx: Context) -> list[Any]:
        return [
            list(ctx.step("basket", Basket(("a", "b")))),
            *ctx.step("cached", cached_pair, "c"),
            *ctx.step("timed", timed_pair, "d"),
        ]

    assert engine.run(next(ids), workflow) == [["a", "b"], "c", "c", "d", "d"]


def test_a_record_that_no_longer_fits_the_annotation_is_refused_by_name_and_kept(engine: Engine) -> None:
    seen: list[Any] = []

    def workflow_with(make: Callable[[], Any], *, crashes: bool) -> Callable[[Context], None]:
        def workflow(ctx: Context) -> None:
            seen.append(ctx.step(make))
            if crashes:
                raise KeyboardInterrupt

        return workflow

    with pytest.raises(KeyboardInterrupt):
        engine.run("grown", workflow_with(step_that_returns({"x": 1}, dict[str, int]), crashes=True))
    with pytest.raises(SerializationError, match="new fields defaults") as caught:
        engine.run("grown", workflow_with(step_that_returns(None, Movie), crashes=False))
    engine.run("grown", workflow_with(step_that_returns(None, Point), crashes=False))

    assert "step 'make_1' of 'grown'" in caught.value.subject
    assert seen == [{"x": 1}, Point(1, 0.0)]


def test_values_nested_as_deep_as_python_allows_come_back_or_are_refused_but_never_break_the_replay(
    engine: Engine,
) -> None:
    """What is accepted at the top of the stack must still decode when the workflow replays it from further down."""
    refused = 0
    for levels in range(100, sys.getrecursionlimit() + 100, 100):
        trip = Trip(_deep(levels), list)
        trip.is_interrupted = True
        workflow_id = next(ids)
        try:
            engine.run(workflow_id, trip.workflow, [])
        except SerializationError:
            refused += 1
        except KeyboardInterrupt:
            trip.is_interrupted = False
            assert _from_further_down(40, engine.run, workflow_id, trip.workflow, []) == _deep(levels)

    assert refused  # else it was not deep enough


def _from_further_down(frames: int, fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args) if frames == 0 else _from_further_down(frames - 1, fn, *args)


def test_a_database_of_values_can_be_read_by_people(engine: Engine) -> None:
    team = Team(name="\u00e9quipe", members=(Point(1, 2.5),), due=datetime(2026, 11, 23, 12, tzinfo=UTC))

    engine.run("readable", Trip(team, Team).workflow, team)

    [step] = engine.steps("readable")
    assert step.output == (
        '{"name":"\u00e9quipe","members":[{"x":1,"y":2.5}],"tags":[],"levels":{},"parent":null,"due":"2026-11-23T12:00:00Z"}'
    )
    assert step.value["members"] == [{"x": 1, "y": 2.5}]


def test_the_values_file_is_where_the_engine_says(engine: Engine) -> None:
    assert engine.path.is_file()
    assert isinstance(engine.path, Path)
