"""Values that practitioners have, and a look at each that tells apart what equality does not."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
from collections import Counter, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import attrs
import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic

STORAGES = ("python", "pyarrow") if find_spec("pyarrow") else ("python",)  # of strings, in pandas


class Address(pydantic.BaseModel):
    street: str
    number: int = 1


class Person(pydantic.BaseModel, extra="allow"):
    name: str
    address: Address | None = None
    born: dt.date | None = None
    weight: float = math.nan
    tags: set[str] = set()
    scores: Any = None
    _seen: int = pydantic.PrivateAttr(default=0)


@attrs.frozen
class Trial:
    number: int
    loss: float
    weights: np.ndarray | None = None


@dataclasses.dataclass
class Split:
    train: pd.DataFrame
    labels: npt.NDArray[np.int64]
    score: float
    where: Path
    by_name: dict[str, pd.Series] = dataclasses.field(default_factory=dict)
    rest: tuple[np.ndarray, ...] = ()


class Point(NamedTuple):
    x: float
    y: np.ndarray


class Colour(enum.Enum):
    RED = "r"
    MIXED = (1, 2)


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    colour: Colour = Colour.RED
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    access: Access = Access.READ


class Zoo(pydantic.BaseModel, arbitrary_types_allowed=True):
    pets: list[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]]
    point: Point | None = None
    trial: Trial | None = None
    limits: Limits | None = None
    counted: Counted | None = None


class Numbers(pydantic.RootModel[list[int]]):
    pass


T = TypeVar("T")


class Box(pydantic.BaseModel, Generic[T]):
    item: T


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    low: float
    high: np.ndarray
    step: np.float64 | None = None


class Counted(msgspec.Struct):
    number: int
    rest: Any = None


class Sample(TypedDict, total=False):
    weight: float
    pixels: np.ndarray


@dataclasses.dataclass
class Tree:
    children: list[Tree] = dataclasses.field(default_factory=list)
    leaf: np.ndarray | None = None


def with_attrs(frame: Any, **noted: Any) -> Any:
    frame.attrs.update(noted)
    return frame


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def seen(person: Person) -> Person:
    person._seen = 7
    return person


HOURS = pd.date_range("2026-10-24 22:00", periods=30, freq="h", tz="Europe/Berlin")  # the clock is put back within
LEVELS = pd.MultiIndex.from_product([["x", "y"], [1, 2]], names=["k", None])
FRAME = pd.DataFrame({"a": [1, 2, 3], "b": [1.5, np.nan, -0.0]})

FRAMES: dict[str, Any] = {
    "plain ints/floats": FRAME,
    "strings": pd.DataFrame({"a": ["x", None, "z"]}),
    "DatetimeIndex freq": pd.DataFrame({"a": [1, 2, 3]}, index=pd.date_range("2026", periods=3, freq="D")),
    "tz-aware": pd.DataFrame({"a": pd.date_range("2026", periods=3, tz="Europe/Berlin")}),
    "timedelta": pd.DataFrame({"a": pd.to_timedelta([1, 2, 3], "h")}),
    "period": pd.DataFrame({"a": pd.period_range("2026", periods=3, freq="M")}),
    "categorical ordered": pd.DataFrame({"a": pd.Categorical(list("aba"), categories=list("ba"), ordered=True)}),
    "Int64 nullable": pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64")}),
    "Float32 nullable": pd.DataFrame({"a": pd.array([1.5, None], dtype="Float32")}),
    "boolean nullable": pd.DataFrame({"a": pd.array([True, None, False], dtype="boolean")}),
    "MultiIndex rows": pd.DataFrame({"a": [1, 2, 3, 4]}, index=LEVELS),
    "MultiIndex columns": pd.DataFrame([[1, 2], [3, 4]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])),
    "int column names": pd.DataFrame([[1, 2], [3, 4]]),
    "mixed column names": pd.DataFrame([[1, 2, 3]], columns=["a", 1, ("b", 2)]),
    "duplicate columns": pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]),
    "duplicate rows": pd.DataFrame({"a": [1, 2]}, index=["r", "r"]),
    "columns.name": pd.DataFrame({"k": ["x", "y"], "c": ["p", "q"], "v": [1, 2]}).pivot_table("v", "k", "c"),
    "describe": FRAME.describe(),
    "groupby": pd.DataFrame({"k": ["x", "y", "x"], "v": [1, 2, 3]}).groupby("k").agg(["sum", "mean"]),
    "value_counts": pd.Series(["a", "b", "a"]).value_counts(),
    "resampled": pd.Series(range(30), index=HOURS).resample("D").mean(),
    "corr": FRAME.corr(),
    "object: mixed": pd.DataFrame({"a": pd.Series([1, "x", 2.5, None, math.nan, True, np.int64(1)], dtype=object)}),
    "object: missing": pd.DataFrame({"a": pd.Series([pd.NA, pd.NaT, None, math.nan], dtype=object)}),
    "object: lists": pd.DataFrame({"a": [[1], [2, 3], []]}),
    "object: dicts": pd.DataFrame({"a": [{"x": 1}, {"y": 2}, {3: (4,)}]}),
    "object: sets": pd.DataFrame({"a": [{1}, {2, 3}, frozenset("a")]}),
    "object: Decimal": pd.DataFrame({"a": [Decimal("1.10")] * 3}),
    "object: dates": pd.DataFrame({"a": pd.Series([dt.date(2026, 1, 1), dt.timedelta(1), dt.time(1)], dtype=object)}),
    "object: arrays": pd.DataFrame({"a": pd.Series([np.zeros(2), np.array("a"), b"x", 2**70], dtype=object)}),
    "object: str": pd.DataFrame({"a": pd.Series(["x", "y"], dtype=object)}),
    "attrs": with_attrs(pd.DataFrame({"a": [1]}), source="x", n=(1, 2)),
    "flags": pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
    "complex": pd.DataFrame({"a": [1 + 2j]}),
    "float16": pd.DataFrame({"a": np.array([1, 2], "float16")}),
    "datetime64[s]": pd.DataFrame({"a": np.array(["2026-01-01", "NaT"], "M8[s]")}),
    "intervals": pd.DataFrame({"a": pd.cut([1, 2, 3], 2)}),
    "interval column": pd.DataFrame({"a": pd.arrays.IntervalArray.from_breaks([0.0, 1.5, 2.0], closed="left")}),
    "one block": pd.DataFrame(np.arange(12.0).reshape(3, 4), columns=list("wxyz")),
    "categories and none": pd.DataFrame({"a": pd.Categorical(["a", None, "b"], categories=["b", "a", "unused"])}),
    "categories of dates": pd.DataFrame({"a": pd.Categorical(pd.date_range("2026", periods=2, tz="UTC"))}),
    "periods and NaT": pd.DataFrame({"a": pd.PeriodIndex(["2026-01", None], freq="M")}),
    "intervals and none": pd.DataFrame({"a": pd.arrays.IntervalArray.from_tuples([(0, 1), np.nan])}),
    "object: zones": pd.DataFrame({"a": pd.Series([HOURS[0], pd.Timestamp("2026", tz="Asia/Tokyo")], dtype=object)}),
    "object: enums": pd.DataFrame({"a": pd.Series([Colour.MIXED, Access.READ | Access.WRITE], dtype=object)}),
    "object: classes with fields": pd.DataFrame({"a": pd.Series([Trial(1, 0.5), Cat(), Tree()], dtype=object)}),
    "object: frames": pd.DataFrame({"a": pd.Series([FRAME, FRAME["b"]], dtype=object)}),
    "object: minus zero": pd.DataFrame({"a": pd.Series([-0.0, 2**100], dtype=object)}),
    "attrs with a frame": with_attrs(
        pd.DataFrame({"a": [1]}), before=FRAME, at=dt.date(2026, 1, 1), to={1: Colour.RED}
    ),
    "columns of dates": pd.DataFrame([[1, 2]], columns=pd.date_range("2026", periods=2)),
    "bytes of the other end": pd.DataFrame({"a": np.array([1, 2], ">i4")}),
    "every second row": pd.DataFrame({"a": range(6), "b": list("abcdef")})[::2],
    "empty, typed": pd.DataFrame({"a": pd.Series([], dtype="int8")}),
    "empty": pd.DataFrame(),
    "no columns": pd.DataFrame(index=pd.Index([3, 4], name="n")),
    "no rows": pd.DataFrame(columns=["a", "b"]),
    **{
        f"string[{storage}]": pd.DataFrame({"a": pd.array(["x", None, "z"], dtype=pd.StringDtype(storage))})
        for storage in STORAGES
    },
}

ARRAYS: dict[str, Any] = {
    **{
        f"array {dtype}": np.array([0, 1, 2], dtype=dtype)
        for dtype in (
            *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32"),
            *("float64", "longdouble", "complex64", "complex128", ">i4", ">f8", "S3", "U3", "M8[ns]", "M8[D]"),
            *("m8[us]", "M8[25s]"),
        )
    },
    "array V4": np.zeros(3, "V4"),
    "NaN and infinities": np.array([np.nan, np.inf, -np.inf, -0.0]),
    "structured": np.array([(1, 2.5, "a")], dtype=[("n", "i4"), ("x", ">f8"), ("s", "U2")]),
    "structured with a gap": np.zeros(2, np.dtype({"names": ["a", "b"], "formats": ["i1", "f8"], "offsets": [0, 16]})),
    "structured with a shape": np.zeros(2, dtype=[("m", "f4", (2, 2))]),
    "structured within": np.zeros(2, [("a", [("b", "i4"), ("c", "f8", (2,))]), ("d", "U3")]),
    "records": np.asarray(np.rec.array([(1, 2.5)], dtype=[("n", "i4"), ("x", "f8")])),
    "0-d": np.array(1.5),
    "0-d of dates": np.array(np.datetime64("2026", "D")),
    "empty 1-d": np.array([]),
    "empty 3-d": np.zeros((2, 0, 3), "int16"),
    "empty strings": np.array(["", ""], "U0"),
    "order C": np.arange(24).reshape(2, 3, 4),
    "order F": np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    "columns of order F": np.asfortranarray(np.arange(12.0).reshape(3, 4))[:, 1:3],
    "rows of order F": np.asfortranarray(np.arange(12.0).reshape(3, 4))[1:],
    "one row, many times": np.broadcast_to(np.arange(3), (4, 3)),
    "not aligned": np.frombuffer(bytes(17), "u1")[1:].view("f8"),
    "read-only": read_only(np.arange(3)),
    "with gaps": np.arange(20).reshape(4, 5)[::2, 1::2],
    "transposed": np.arange(6).reshape(2, 3).T,
    "reversed": np.arange(3)[::-1],
}

SCALARS: dict[str, Any] = {
    **{
        f"scalar {np.dtype(dtype)}": np.array([1]).astype(dtype)[0]
        for dtype in ("bool", "int8", "uint64", "float16", "float32", "float64", "longdouble", "complex64", "M8[s]")
    },
    "scalar NaN": np.float64("nan"),
    "scalar str": np.str_("a"),
    "scalar bytes": np.bytes_(b"a"),
    "scalar void": np.array([(1, 2.5)], dtype=[("n", "i4"), ("x", "f8")])[0],
    "scalar record": np.rec.array([(1,)], dtype=[("n", "i4")])[0],
    "scalar date of nanoseconds": np.array(["2026-01-01"], "M8[ns]")[0],
    "scalar duration of nanoseconds": np.timedelta64(5, "ns"),
    "scalar duration of years": np.timedelta64(5, "Y"),
    "scalar NaT": np.datetime64("NaT", "ns"),
    "mean": FRAME["a"].mean(),
    "Timestamp": pd.Timestamp("2026-01-01 12:00:00.000000001"),
    "Timestamp in a zone": HOURS[4],
    "Timestamp put back": HOURS[5],
    **{
        f"{name} in a zone of pytz": HOURS.tz_convert(import_module("pytz").timezone(zone))[place]
        for name, place, zone in [
            ("DatetimeIndex", slice(9), "Europe/Berlin"),
            ("Timestamp", 4, "Europe/Berlin"),
            ("Timestamp put back", 5, "America/New_York"),
            ("Timestamp of one offset", 5, "Etc/GMT-5"),
            ("Timestamp in UTC", 5, "UTC"),
        ]
        if find_spec("pytz")  # pandas 2 needs it
    },
    "Timestamp[s]": pd.Timestamp("2026-01-01").as_unit("s"),
    "Timedelta": pd.Timedelta("1 day 1 ns"),
    "NaT": pd.NaT,
    "NA": pd.NA,
    "Period": pd.Period("2026-01", "Q"),
    "Interval": pd.Interval(pd.Timestamp(0), pd.Timestamp(1), "both"),
    "NaN": math.nan,
    "infinity": -math.inf,
    "complex": complex(math.nan, -0.0),
    "Fraction": Fraction(-1, 3),
    "range": range(3, 9, 2),
    "slice": slice(None, 5, 2),
    "path": Path("a b/c"),
    "pure path": PurePosixPath("/x"),
    "path of Windows": PureWindowsPath(r"C:\x"),
    "Counter": Counter("aab"),
    "Counter of tuples": Counter([(1, 2), (1, 2), None]),
    "deque": deque([1, math.nan, (2,)], maxlen=5),
    "defaultdict": defaultdict(list, {"a": [1], 2: [3]}),
    "datetime in a zone": dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    "datetime with fold": dt.datetime(2026, 10, 25, 2, 30, fold=1),  # noqa: DTZ001
}

INDEXES: dict[str, Any] = {
    "RangeIndex": pd.RangeIndex(1, 9, 2, name="r"),
    "Index of ints": pd.Index([3, 1], dtype="int8", name=("a", 1)),
    "Index of strings": pd.Index(["a", None]),
    "Index of objects": pd.Index([1, "a", (2,)], dtype=object),
    "Index of nullables": pd.Index(pd.array([1, None], dtype="Int8")),
    "Index of bool": pd.Index([True, False]),
    "DatetimeIndex": HOURS,
    "DatetimeIndex without freq": pd.DatetimeIndex(["2026-01-01", "NaT", "2025-01-01"], name="t"),
    "DatetimeIndex of weeks": pd.date_range("2026", periods=3, freq="2W-TUE"),
    "TimedeltaIndex": pd.timedelta_range("1h", periods=3, freq="90min"),
    "PeriodIndex": pd.period_range("2026", periods=3, freq="Q-MAR", name="p"),
    "IntervalIndex": pd.interval_range(0, 3, closed="left"),
    "CategoricalIndex": pd.CategoricalIndex(["a", "b"], categories=["b", "a"], ordered=True, name="c"),
    "MultiIndex": LEVELS,
    "MultiIndex of dates": pd.MultiIndex.from_arrays(
        [pd.date_range("2026", periods=2, tz="UTC"), pd.Categorical(["x", "y"]), [1.5, np.nan], ["a", None]],
        names=[("t", 1), None, 2, 2],
    ),
    "IntervalIndex that overlaps": pd.IntervalIndex.from_tuples([(0, 2), (1, 3)], name="n"),
    "MultiIndex with unused levels": LEVELS[:1],
    "MultiIndex in its order": pd.MultiIndex([[1, 2], ["a"]], [[0, 1], [0, 0]], sortorder=1),
    "Series": pd.Series([1, None], name=3, dtype="Int64"),
    "Series of strings": pd.Series(["a", None], index=["x", "y"]),
    "Series with attrs": with_attrs(pd.Series([1.5]), unit="m"),
    "Categorical": pd.Categorical([1, 2, None]),
    "nullable array": pd.array([1, None]),
    "DatetimeArray": HOURS.array[:3],
}

HELD: dict[str, Any] = {
    "model": Person(name="Ann", weight=1.5),
    "model within": Person(name="Ann", address=Address(street="x"), tags={"b", "a"}, born=dt.date(2000, 1, 1)),
    "model with extras": Person(name="Ann", more=(1, {2})),  # type: ignore[call-arg]
    "model with private": seen(Person(name="Ann", weight=math.nan, scores=np.arange(3))),
    "model of unions": Zoo(pets=[Cat(colour=Colour.MIXED), Dog(access=Access.READ | Access.WRITE)]),
    "model of classes": Zoo(
        pets=[],
        point=Point(math.inf, np.arange(2)),
        trial=Trial(1, math.nan),
        limits=Limits(low=-0.0, high=np.zeros(2)),
        counted=Counted(1, (2, {3})),
    ),
    "model of one list": Numbers([1, 2]),
    "model of any item": Box[Any](item={"a": (1, FRAME)}),
    "model without its type": Box(item=np.arange(2)),
    "model that was not validated": Cat.model_construct(lives="many"),
    "a dict of pairs": {(1, "a"): 0.5, (2, None): math.nan},
    "a dict of None and bool": {None: 1, True: 2, frozenset({1}): [3]},
    "large numbers": [2**63, 2**64, -(10**30), math.nan],
    "shared": [FRAME, {"again": FRAME}],
    "in a list": [np.float32(1.5), FRAME, {"a": [Path("x"), math.nan]}],
    "in a dict": {"model": Person(name="Ann"), "when": pd.Timestamp(0), "big": np.arange(9000)},
    "in a deque": deque([np.arange(2), FRAME]),
    "a dict of numbers of numpy": {np.int64(1): np.float64(2), "a": {np.str_("x"): None}},
    "a dict that looks like one": {"a": {"$value": "x", "format": "array/1"}, "b": math.nan},
}

TYPED: dict[str, tuple[Any, Any]] = {
    "a dataclass": (Split, Split(FRAME, np.arange(3), math.nan, Path("x"), {"s": FRAME["a"]}, (np.zeros(2),))),
    "an attrs class": (Trial, Trial(1, math.inf, np.zeros((2, 2)))),
    "a NamedTuple": (Point, Point(math.nan, np.array([1]))),
    "a tuple": (tuple[pd.DataFrame, pd.Series, float], (FRAME, FRAME["b"], math.nan)),
    "a list of arrays": (list[np.ndarray], [np.zeros(2), np.ones(3)]),
    "a dict of frames": (dict[int, pd.DataFrame], {1: FRAME, 2: FRAME[:1]}),
    "a union": (pd.DataFrame | pd.Series | None, FRAME["a"]),
    "an optional array": (np.ndarray | None, np.zeros(2)),
    "an alias of an array": (npt.NDArray[np.float64], np.zeros(2)),
    "a set of paths": (set[Path], {Path("a"), Path("b")}),
    "models": (list[Person], [Person(name="Ann"), Person(name="Bob", weight=2)]),
    "a path": (Path, Path("a")),
    "a class with slots": (Limits, Limits(low=math.nan, high=np.zeros((2, 2), order="F"), step=np.float64(1))),
    "a class of its own class": (Tree, Tree([Tree([], np.zeros(1)), Tree()])),
    "a Struct": (Counted, Counted(1, [math.inf, np.arange(2)])),
    "a TypedDict": (Sample, Sample(pixels=np.arange(4, dtype="u1"))),
    "an enum as key": (dict[Access, float], {Access.READ: math.nan}),
    "a NewType": (NewType("Id", int), 7),
    "a generic model": (Box[int], Box[int](item=1)),
    "one of two models": (Cat | Dog, Dog()),
    "models by pairs": (dict[tuple[int, int], Cat], {(1, 2): Cat()}),
    "a Decimal that is no number": (list[Decimal], [Decimal("NaN"), Decimal("-0"), Decimal("1E+3")]),
    "a datetime of an odd offset": (dt.datetime, dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(0, 3601)))),
    "minus zero": (tuple[float, ...], (-0.0, 5e-324, 1e22)),
    "a set of tuples": (frozenset[tuple[int, float]], frozenset({(1, math.nan)})),
    "a scalar": (np.float64, np.float64(1.5)),
    "a Timestamp": (pd.Timestamp, pd.Timestamp(1)),
}

VALUES: dict[str, tuple[Any, Any]] = {
    **{
        name: (None, value)
        for group in (FRAMES, ARRAYS, SCALARS, INDEXES, HELD)
        for name, value in group.items()
    },
    **TYPED,
}  # fmt: skip


def look(value: Any) -> Any:
    """Return all that counts of a value, as nested tuples that are equal if and only if it does."""
    kind: Any = type(value)
    if isinstance(value, pd.DataFrame):
        columns = [look(value.iloc[:, place]) for place in range(value.shape[1])]
        return kind, look(value.columns), look(value.index), columns, *_noted(value)
    if isinstance(value, pd.Series):
        return kind, look(value.name), look(value.index), look(value.array), *_noted(value)
    if isinstance(value, pd.MultiIndex):
        codes = [look(np.asarray(each)) for each in value.codes]
        return kind, look(list(value.names)), look(list(value.levels)), codes, value.sortorder
    if isinstance(value, pd.Index):
        freq = getattr(value, "freq", None)
        return kind, look(list(value.names)), repr(freq), value.dtype, look(value.array)
    if isinstance(value, pd.api.extensions.ExtensionArray):
        parts = look(value.categories) if hasattr(value, "categories") else None
        dtype = value.dtype
        cells = [look(cell) for cell in value.astype(object)]
        return kind, repr(dtype), getattr(dtype, "storage", ""), getattr(value, "ordered", None), parts, cells
    if isinstance(value, np.ndarray):
        return kind, *_array(value)
    if isinstance(value, np.generic):
        return kind, repr(value.dtype), repr(value) if value.dtype.char in "gG" else value.tobytes()
    if isinstance(value, pydantic.BaseModel):
        state = value.__getstate__()
        return kind, *[look(state[name]) for name in sorted(state)]
    if dataclasses.is_dataclass(value) or attrs.has(kind):
        fields = [each.name for each in (getattr(kind, "__attrs_attrs__", None) or dataclasses.fields(value))]
        return kind, [(name, look(getattr(value, name))) for name in fields]
    if isinstance(value, dict):
        more = (value.default_factory,) if isinstance(value, defaultdict) else ()
        return kind, [(look(key), look(part)) for key, part in value.items()], *more
    if isinstance(value, list | tuple | deque):
        return kind, [look(part) for part in value], getattr(value, "maxlen", None)
    if isinstance(value, set | frozenset):
        return kind, sorted(map(repr, map(look, value)))
    if isinstance(value, dt.datetime):
        return kind, repr(value), value.fold, getattr(value, "unit", ""), type(value.tzinfo), str(value.tzinfo)
    return kind, repr(value), getattr(value, "unit", "")


def _array(array: Any) -> list[Any]:
    is_dense = array.flags.c_contiguous or array.flags.f_contiguous
    flags = (array if is_dense else np.ascontiguousarray(array)).flags  # gaps are not kept
    order = flags.c_contiguous, flags.f_contiguous
    is_padded = array.dtype.char in "gG"  # with bytes that mean nothing
    has_parts = array.dtype.hasobject or is_padded
    data = [look(cell) for cell in array.ravel()] if has_parts else array.tobytes()
    return [repr(array.dtype), array.dtype.isalignedstruct, array.shape, order, array.flags.writeable, data]


def _noted(value: Any) -> list[Any]:
    return [look(value.attrs), value.flags.allows_duplicate_labels]
