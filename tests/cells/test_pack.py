"""Variables as one tree and back: each value is the same, and what they share is shared again."""

from __future__ import annotations

import base64
import datetime as dt
import enum
import pickle
import random
import re
import threading
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pydantic
import pytest

from durable.cells.variables.graph import places_in
from durable.cells.variables.pack import Packer
from durable.cells.variables.unpack import Unpacker
from durable.values.codec import codec_of


class Colour(enum.Enum):
    RED = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    tags: list[str]


@dataclass
class Account:
    owner: str
    entries: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Fixed:
    held: tuple[int, ...]


class Order(pydantic.BaseModel):
    items: list[int]


class Plain:
    def __init__(self) -> None:
        self.other: Any = None


def there_and_back(variables: dict[str, Any], pickled: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the variables as the engine's text gives them back."""
    packer = Packer(pickled=pickled)
    tree = packer.pack(variables)
    assert packer.refusals == []
    parts: dict[str, tuple[bytes, list[memoryview]]] = {}

    def put(head: bytes, buffers: Any) -> str:
        sha256 = f"{len(parts):064x}"
        parts[sha256] = bytes(head), [memoryview(bytes(memoryview(each).cast("B"))) for each in buffers]
        return sha256

    codec = codec_of(Any, "it")
    text = codec.encode(tree, "it", put)
    return Unpacker({}, pickled=bool(pickled)).unpack(
        codec.decode(text, "it", lambda sha256, subject=None: parts[sha256])
    )


VALUES = [
    None, True, 1, 2**70, -1.5, float("nan"), float("-inf"), "text", b"bytes", bytearray(b"ab"), b"x" * 100_000,
    [1, [2.5, None]], (1, [2]), {"a": 1, "b": {"$": 1}}, {1: "a", (1, 2): "b"}, {3, 1, 2}, frozenset("ab"),
    deque([1, [2]], maxlen=5), Counter("abca"), OrderedDict(a=1), defaultdict(list, a=[1]), range(3), slice(1, 2),
    complex(1, 2), Fraction(1, 3), Decimal("1.10"), uuid.UUID(int=7), Path("a") / "b", Colour.RED, Rights.READ,
    dt.datetime(2020, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001
    dt.datetime(2020, 1, 2, tzinfo=dt.UTC), dt.date(2020, 1, 2), dt.time(1, 2),
    dt.timedelta(1, 2, 3), np.float64(1.5), np.int8(3), np.arange(5), np.arange(100_000.0), np.array([]),
    np.datetime64("2020-01-01"), pd.Timestamp("2020-01-01", tz="UTC"), pd.Timedelta("1h"), pd.NaT,
    pd.Series([1, None], name="s"), pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])}),
    pd.date_range("2020", periods=3), Point(1, ["a"]), Account("jane", [1]), Fixed((1, 2)), [float("nan"), 1.0],
    Account, len, dict,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    made = there_and_back({"it": value})["it"]

    assert type(made) is type(value)
    assert same(made, value)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, pd.DataFrame | pd.Series | pd.Index):
        return bool(one.equals(other))
    return repr(one) == repr(other)


@pytest.mark.parametrize("make", [random.Random, np.random.default_rng, np.random.RandomState])
def test_a_generator_goes_on_with_the_same_numbers(make: Any) -> None:
    generator = make(3)
    generator.random()
    made = there_and_back({"it": generator})["it"]

    assert [made.random() for _ in range(3)] == [generator.random() for _ in range(3)]
    if isinstance(generator, np.random.Generator):
        assert made.spawn(1)[0].random() == generator.spawn(1)[0].random()


def test_what_variables_share_is_one_object_again() -> None:
    shared, array = [1], np.zeros(3)
    node = Plain()
    node.other = node
    ring: list[Any] = [shared]
    ring.append(ring)
    model = Order(items=[1])
    made = there_and_back(
        {"a": {"in": (shared, array)}, "b": [array, node], "c": shared, "ring": ring, "model": model, "d": model.items}
    )

    assert made["a"]["in"][0] is made["c"] is made["ring"][0]
    assert made["a"]["in"][1] is made["b"][0]
    assert made["b"][1].other is made["b"][1]
    assert made["ring"][1] is made["ring"]
    assert made["model"].items is made["d"]


def test_pickled_variables_share_with_each_other_and_with_the_others() -> None:
    shared, pattern = [1], re.compile("a")
    model = {"held": shared, "pattern": pattern}
    made = there_and_back({"model": model, "same": model, "shared": shared}, frozenset({"model", "same"}))

    assert made["model"] is made["same"]
    assert made["model"]["held"] is made["shared"]
    assert made["model"]["pattern"] == pattern


def test_parts_of_other_variables_are_named_and_not_stored() -> None:
    frame = pd.DataFrame({"a": [1]})
    others = {"held": {"frames": [frame]}}
    tree = Packer(places_in(others)).pack({"mine": (frame, 1)})
    made = Unpacker(others).unpack(tree)

    assert tree["mine"]["v"][0] == {"$": "outside", "v": ["held", "frames", 0]}
    assert made["mine"][0] is frame


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: {"it": [1, {"deep": threading.Lock()}]}, "it[1]['deep'] (_thread.lock): it has no exact form"),
        (lambda: {"it": lambda: 1}, "it (builtins.function): it has no exact form"),
        (lambda: {"it": Rights.READ | Rights.WRITE}, "it is no single member of its class"),
        (lambda: {"it": (whole := np.arange(3)), "other": whole[:2]}, "is a view of the same memory as 'it'"),
        (
            lambda: {"it": (rng := np.random.default_rng()), "other": np.random.Generator(rng.bit_generator)},
            "is a view of the same memory as 'it'",
        ),
        (
            lambda: {"held": (held := [1]), "it": pd.DataFrame({"a": [held, [2]]})},
            "it (pandas.DataFrame): it holds a list",
        ),
        (lambda: {"frame": pd.DataFrame({"a": [it := [1]]}), "it": it}, "it (builtins.list): 'frame' holds it, too"),
        (lambda: {"frame": pd.Series([{"in": (it := [1])}]), "it": it}, "it (builtins.list): 'frame' holds it, too"),
        (lambda: {"it": pd.Series([[1]] * 2)}, "it holds a list that is also held elsewhere; give each a copy"),
        (lambda: {"it": type("Local", (Plain,), {"__qualname__": "f.<locals>.Local"})()}, "its class is local"),
    ],
)
def test_a_value_without_exact_form_is_refused_with_its_place(make: Any, why: str) -> None:
    packer = Packer()
    packer.pack(make())

    [refusal] = packer.refusals
    assert why in str(refusal)


def test_a_variable_that_holds_what_a_frame_of_another_cell_holds_is_refused() -> None:
    held = [1]
    packer = Packer(places_in({"frame": pd.DataFrame({"a": [held]})}))
    packer.pack({"it": {"in": held}})
    pickling = Packer(places_in({"frame": pd.DataFrame({"a": [held]})}), pickled=frozenset({"it"}))
    pickling.pack({"it": {"in": held}})

    assert [str(refusal) for refusal in packer.refusals] == [
        "it['in'] (builtins.list): 'frame' holds it, too; give each a copy"
    ]
    assert "'frame' holds a part of it, too" in str(pickling.refusals[0])


def test_a_variable_that_cannot_be_pickled_is_refused_by_name() -> None:
    packer = Packer(pickled=frozenset({"it"}))
    packer.pack({"it": threading.Lock()})

    assert "it (_thread.lock): it cannot be pickled" in str(packer.refusals[0])
    with pytest.raises(TypeError):
        pickle.dumps(threading.Lock())


@pytest.mark.parametrize(
    "tree",
    [
        {"$pickled": {"$": "pickle", "v": base64.b64encode(pickle.dumps({"it": 1})).decode()}},
        {"it": {"$": "instance", "class": "subprocess:Popen", "v": ["false"]}},
        {"it": {"$": "native", "class": "subprocess:Popen", "v": "1"}},
        {"it": {"$": "member", "class": "os:environ", "v": "PATH"}},
        {"it": {"$": "generator", "class": "numpy.random:Generator", "v": {"bits": "seed", "state": 1, "seeds": {}}}},
        {"it": {"$": "instance", "class": "this:Zen", "v": {}}},
    ],
)
def test_a_file_calls_nothing_and_unpickles_nothing_that_the_cell_did_not_ask_for(tree: Any) -> None:
    with pytest.raises((LookupError, ImportError, TypeError)):
        Unpacker({}).unpack(tree)
