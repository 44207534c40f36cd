"""Formats: values of numpy, pandas, pydantic and others come back exactly, or are refused by name."""

import dataclasses
import math
import os
import pickle
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.extra import pandas as hpd

from durable import Context, Engine, SerializationError
from durable.formats import Format, FormatError, Pickled, register
from durable.values.codec import PLAIN, Codec
from durable.values.large import digest
from tests.values.gallery import FRAME, HOURS, VALUES, Address, look

settings.register_profile("durable", max_examples=30, deadline=None, derandomize=True, database=None)
settings.load_profile("durable")


def codec_of(annotation: Any) -> Codec:
    return Codec(Any if annotation is None else annotation)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_of_a_practitioner_comes_back_exactly(name: str) -> None:
    annotation, value = VALUES[name]
    codec = codec_of(annotation)

    text, first = codec.round_trip(value, "it")
    replayed = codec.decode(text, "it")

    assert look(first) == look(value)
    assert look(replayed) == look(value)
    assert codec.encode(replayed, "it") == text
    assert msgspec.json.decode(text) is not None


@pytest.mark.thorough
def test_each_value_comes_back_every_way_in_another_process_after_a_kill_and_on_a_fork(tmp_path: Path) -> None:
    database = str(tmp_path / "workflow.db")
    program = [sys.executable, "-m", "tests.values.travel", database]

    first = subprocess.run(program, capture_output=True, text=True, check=False)
    second = subprocess.run([*program, "again"], capture_output=True, text=True, check=False)

    assert first.returncode not in (0, 1), first.stderr
    assert first.stdout.splitlines() == [str(4 * len(VALUES))], first.stdout
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines() == [str(13 * len(VALUES))], second.stdout


def test_look_tells_apart_what_equality_does_not() -> None:
    flagged = FRAME.set_flags(allows_duplicate_labels=False)
    noted = FRAME.copy()
    noted.attrs["a"] = 1
    pairs: list[tuple[Any, Any]] = [
        (FRAME, flagged),
        (FRAME, noted),
        (FRAME, FRAME.astype({"a": "int32"})),
        (FRAME, FRAME.rename_axis("n")),
        (HOURS, pd.DatetimeIndex(list(HOURS))),
        (pd.Series([1, 2], dtype=object), pd.Series([1, np.int64(2)], dtype=object)),
        (pd.Series([None, 1], dtype=object), pd.Series([math.nan, 1], dtype=object)),
        (np.zeros((2, 2)), np.zeros((2, 2), order="F")),
        (np.zeros(2, "<f8"), np.zeros(2, ">f8")),
        (np.float64(1), 1.0),
        (Address(street="a"), Address(street="a", number=1)),
        (pd.Timestamp(0), pd.Timestamp(0).as_unit("s")),
    ]

    assert [look(one) == look(other) for one, other in pairs] == [False] * len(pairs)


@given(
    hnp.arrays(
        hnp.scalar_dtypes() | hnp.array_dtypes(max_size=3),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
def test_any_array_comes_back_exactly(array: Any) -> None:
    text, first = PLAIN.round_trip(array, "it")

    assert look(first) == look(array)
    assert look(PLAIN.decode(text, "it")) == look(array)


cells = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary()
columns = st.lists(
    st.sampled_from(["int8", "float64", "bool", "datetime64[ns]", "timedelta64[s]", "complex128"]),
    min_size=0,
    max_size=4,
)


@given(st.data(), columns, st.text(max_size=2) | st.integers() | st.none())
def test_any_frame_comes_back_exactly(data: Any, dtypes: list[str], name: Any) -> None:
    frame = data.draw(
        hpd.data_frames([hpd.column(f"c{n}", dtype=dtype) for n, dtype in enumerate(dtypes)], index=hpd.range_indexes())
    )
    frame["objects"] = pd.Series([data.draw(cells) for _ in range(len(frame))], index=frame.index, dtype=object)
    frame.index.name = name

    text, first = PLAIN.round_trip(frame, "it")

    assert look(first) == look(frame)
    assert look(PLAIN.decode(text, "it")) == look(frame)


# ---- the text


def test_a_row_can_be_read_by_people() -> None:
    assert PLAIN.encode({"loss": math.nan}, "it") == '{"loss":{"$value":"nan","format":"float/1"}}'
    assert PLAIN.encode(np.float64(1.5), "it") == '{"$value":{"float64":1.5},"format":"scalar/1"}'
    assert msgspec.json.decode(PLAIN.encode(np.array([1], "int8"), "it")) == {
        "$value": {"dtype": "|i1", "shape": [1]},
        "format": "array/1",
        "buffers": ["AQ=="],
        "preview": "int8 array of 1",
    }
    text = msgspec.json.decode(PLAIN.encode(FRAME, "it"))
    assert (text["format"], text["preview"]) == ("frame/1", "3 rows x 2 columns: a int64, b float64")
    assert text["versions"] == {"pandas": pd.__version__}


@pytest.mark.parametrize(
    ("value", "annotation", "text"),
    [
        (np.float64(1.5), float, "1.5"),
        (np.int8(3), int, "3"),
        (np.int64(3), float, "3"),
        (np.bool_(True), bool, "true"),
        (np.float64(1.5), float | None, "1.5"),
        ([np.float32(0.5)], list[float], "[0.5]"),
        ({"a": (np.int64(1), np.float64(2))}, dict[str, tuple[int, float]], '{"a":[1,2.0]}'),
        ({np.int64(1): np.float64(2)}, dict[int, float], '{"1":2.0}'),
        (FRAME["a"].value_counts().to_dict(), dict[int, int], '{"1":1,"2":1,"3":1}'),
        (Address(street="a"), Address, None),
    ],
    ids=str,
)
def test_a_number_of_numpy_becomes_the_number_that_is_announced(value: Any, annotation: Any, text: str | None) -> None:
    stored, first = Codec(annotation).round_trip(value, "it")

    assert first == value
    if text is not None:
        assert stored == text
        assert type(first) in (float, int, bool, list, dict)


def test_a_number_of_numpy_keeps_its_type_where_none_is_announced() -> None:
    @dataclasses.dataclass
    class Scores:
        best: float
        all: Any

    shared = np.float64(0.5)
    _, scores = Codec(Scores).round_trip(Scores(shared, [shared]), "it")

    assert [type(scores.best), type(scores.all[0])] == [float, np.float64]


@pytest.mark.parametrize(
    "value",
    [
        {"$value": 1},
        {"$value": 1, "format": "array/1"},
        {"$value": {"$value": 1, "format": "x/1"}, "format": "x/1", "more": [{"$value": 1, "format": "x/1"}]},
        {"format": "x/1", "$value": 1},
        ["$value", '{"$value":', {'{"$value":': 1}],
    ],
)
@pytest.mark.parametrize("annotation", [Any, dict, list, dict[str, Any]], ids=str)
def test_a_dict_of_the_user_is_never_taken_for_a_formatted_value(value: Any, annotation: Any) -> None:
    if isinstance(value, list) != (annotation is list) and annotation is not Any:
        value = [value] if annotation is list else {"a": value}
    codec = Codec(annotation)

    text, first = codec.round_trip(value, "it")

    assert first == value
    assert codec.decode(text, "it") == value


# ---- refusals


def _weekly() -> Any:
    return pd.offsets.CustomBusinessDay(holidays=["2026-01-01"])


class Weekly(pd.DataFrame):
    pass


STRINGS = getattr(np.dtypes, "StringDType", lambda: object)  # numpy 1 has none


REFUSED: list[tuple[str, Any, str]] = [
    ("an array of objects", np.array([1, None]), "which holds objects; give it a type with .astype(...)"),
    ("an array of strings of any length", np.array(["a"], STRINGS()), "which holds objects"),
    ("a masked array", np.ma.array([1]), "fill it with .filled(...), or give its .data and its .mask"),
    ("a mapped array", np.arange(3).view(np.memmap), "make it a plain one with numpy.asarray(...)"),
    ("a matrix", np.ones((2, 2)).view(np.matrix), "make it a plain one with numpy.asarray(...)"),
    ("a class with a frame", VALUES["a dataclass"][1], "annotate the function, as in '-> Split'"),
    ("a class with an array", VALUES["an attrs class"][1], "annotate the function, as in '-> Trial'"),
    ("a tuple of frames", (FRAME, FRAME["a"]), "annotate the function, as in '-> tuple[DataFrame, Series]'"),
    ("a set of timestamps", {pd.Timestamp(0)}, "annotate the function, as in '-> set[Timestamp]'"),
    ("a recarray", np.ones(3).view(np.recarray), "make it a plain one with numpy.asarray(...)"),
    ("a type with notes", np.zeros(1, np.dtype("f8", metadata={"a": 1})), "give it another type with .astype(...)"),
    ("a sparse column", pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), ".sparse.to_dense()"),
    ("an index with holidays", pd.date_range("2026", periods=3, freq=_weekly()), "take it off with .index.freq = None"),
    ("objects in cells", pd.Series([Path], dtype=object).map(lambda _: object()), "holds a object, and that has no"),
    ("a subclass of a frame", Weekly({"a": [1]}), "make it a plain one with pandas.DataFrame(...)"),
    ("a factory without a name", defaultdict(lambda: 1), "import it, or bring it back"),
    ("a lone surrogate in a cell", pd.Series(["a\ud800"], dtype=object), "errors='replace'"),
]


@pytest.mark.parametrize(("value", "remedy"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_value_without_exact_form_is_refused_by_name_and_nothing_of_it_is_stored(
    tmp_path: Path, value: Any, remedy: str
) -> None:
    def workflow(ctx: Context) -> None:
        ctx.step("make", lambda: value)

    with Engine(tmp_path / "workflow.db") as engine:
        with pytest.raises(SerializationError) as caught:
            engine.run("wf", workflow)
        [step] = engine.steps("wf")

    assert caught.value.type_name == type(value).__qualname__
    assert "step 'make_1' of 'wf': its result has" in str(caught.value)
    assert remedy in str(caught.value)
    assert (step.status, step.output) == ("running", None)


@pytest.mark.parametrize(
    ("value", "advised"),
    [
        (np.array([1, None]), lambda value: value.tolist()),
        (np.array([1, 2], dtype=object), lambda value: value.astype("int64")),
        (np.ones(3).view(np.recarray), np.asarray),
        (np.rec.array([(1, 2.5)], dtype=[("n", "i4"), ("x", "f8")]), np.asarray),
        (np.arange(3).view(np.memmap), np.asarray),
        (np.ma.array([1, 2], mask=[0, 1]), lambda value: value.filled(0)),
        (np.ma.array([1, 2], mask=[0, 1]), lambda value: [value.data, value.mask]),
        (np.zeros(1, np.dtype("f8", metadata={"a": 1})), lambda value: value.astype("f8")),
        (pd.Series(pd.arrays.SparseArray([0, 1])), lambda value: value.sparse.to_dense()),
        (Weekly({"a": [1]}), pd.DataFrame),
        (
            pd.DataFrame({"a": [1, 2, 3]}, index=pd.date_range("2026", periods=3, freq=_weekly())),
            lambda value: value.set_axis(pd.DatetimeIndex(value.index, freq=None)),
        ),
    ],
)
def test_the_remedy_of_a_refusal_works(value: Any, advised: Any) -> None:
    with pytest.raises(SerializationError):
        PLAIN.encode(value, "it")

    value = advised(value)
    if hasattr(value, "index") and getattr(value.index, "freq", None) is not None:
        value.index.freq = None

    assert look(PLAIN.round_trip(value, "it")[1]) == look(value)


# ---- formats of the user


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


class MoneyFormat(Format):
    name = "money/1"

    def __init__(self, unit: str = "cents") -> None:
        self.unit = unit

    def dump(self, value: Any) -> tuple[Any, Sequence[bytes]]:
        return {self.unit: value.cents}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        return Money(head[self.unit])


class Lossy(MoneyFormat):
    name = "lossy/1"

    def load(self, head: Any, buffers: Any) -> Any:
        return Money(head[self.unit] // 10)


class Coin(Money):
    __durable_format__ = MoneyFormat("cents")

    def __init__(self, cents: int) -> None:
        super().__init__(cents)


class CoinFormat(MoneyFormat):
    name = "coin/2"

    def load(self, head: Any, buffers: Any) -> Any:
        return Coin(head[self.unit])


Coin.__durable_format__ = CoinFormat()


@dataclasses.dataclass
class Price:
    """JSON would do for it, and it has a format of its own."""

    cents: int


class PriceFormat(MoneyFormat):
    name = "price/1"

    def load(self, head: Any, buffers: Any) -> Any:
        return Price(head[self.unit])


Price.__durable_format__ = PriceFormat("euros")  # type: ignore[attr-defined]


@dataclasses.dataclass
class Basket:
    prices: list[Price]
    rest: Any = None


@pytest.mark.parametrize(
    ("value", "annotation"),
    [(Price(7), Price), (Price(7), Any), ({"a": [Price(7)]}, dict), (Basket([Price(7)], Price(8)), Basket)],
    ids=str,
)
def test_the_format_of_a_class_is_used_where_json_would_do(value: Any, annotation: Any) -> None:
    codec = Codec(annotation)

    text, first = codec.round_trip(value, "it")

    assert first == codec.decode(text, "it") == value
    assert '{"$value":{"euros":7},"format":"price/1","class":"tests.values.test_formats:Price"}' in text


def test_an_annotation_may_ask_for_a_format() -> None:
    codec = Codec(list[Annotated[Money, MoneyFormat("c")]])

    text, [first] = codec.round_trip([Money(7)], "it")
    [replayed] = codec.decode(text, "it")

    assert text == '[{"$value":{"c":7},"format":"money/1"}]'
    assert (type(replayed), first.cents, replayed.cents) == (Money, 7, 7)


def test_an_annotation_may_ask_for_a_format_where_json_would_do() -> None:
    class Reversed(Format):
        name = "reversed/1"

        def dump(self, value: Any) -> tuple[Any, Sequence[bytes]]:
            return value[::-1], ()

        def load(self, head: Any, buffers: Any) -> Any:
            return head[::-1]

    codec = Codec(Annotated[str, Reversed()])

    text, first = codec.round_trip("abc", "it")

    assert (text, first, codec.decode(text, "it")) == ('{"$value":"cba","format":"reversed/1"}', "abc", "abc")


def test_a_class_may_say_its_format() -> None:
    codec = Codec(Coin)

    text, first = codec.round_trip(Coin(7), "it")

    assert text == '{"$value":{"cents":7},"format":"coin/2","class":"tests.values.test_formats:Coin"}'
    assert (type(first), first.cents, codec.decode(text, "it").cents) == (Coin, 7, 7)


def test_a_format_may_be_registered_by_the_name_of_a_class_and_holds_for_subclasses() -> None:
    class Amount:
        def __init__(self, cents: int) -> None:
            self.cents = cents

    class AmountFormat(MoneyFormat):
        name = "amount/1"

        def load(self, head: Any, buffers: Any) -> Any:
            return Amount(head["cents"])

    with pytest.raises(SerializationError):
        PLAIN.encode([Amount(7)], "it")
    register(f"{Amount.__module__}.{Amount.__qualname__}", AmountFormat())
    text, [first] = PLAIN.round_trip([Amount(7)], "it")

    assert text == '[{"$value":{"cents":7},"format":"amount/1"}]'
    assert (first.cents, PLAIN.decode(text, "it")[0].cents) == (7, 7)
    with pytest.raises(SerializationError, match="has a Special"):
        PLAIN.encode(type("Special", (Amount,), {})(7), "it")  # it would come back as an Amount


def test_a_format_that_is_not_exact_is_refused_when_a_value_is_saved() -> None:
    with pytest.raises(SerializationError, match="has a Money"):
        Codec(Annotated[Money, Lossy()]).encode(Money(77), "it")


@pytest.mark.parametrize("format", [Money, 1, object()])
def test_what_is_no_format_is_refused(format: Any) -> None:
    with pytest.raises(TypeError, match="expected a format"):
        register(Money, format)


def test_a_format_without_a_version_is_refused() -> None:
    class Nameless(MoneyFormat):
        name = "money"

    with pytest.raises(ValueError, match="expected a name with a version"):
        register(Money, Nameless())


def test_another_package_may_bring_a_format_by_an_entry_point(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "class Money:\n    def __init__(self, cents): self.cents = cents\n"
        "class MoneyFormat:\n    name = 'shop-money/1'\n"
        "    def dump(self, value): return value.cents, ()\n"
        "    def load(self, head, buffers): return Money(head)\n"
        "    def preview(self, value): return 'money'\n"
    )
    info = tmp_path / "shop-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[durable.formats]\nshop.Money = shop:MoneyFormat\n")
    code = (
        "from durable.values.codec import PLAIN; import sys\n"
        "if len(sys.argv) == 1:\n    import shop; print(PLAIN.encode(shop.Money(7), 'it'))\n"
        "else: print(PLAIN.decode(sys.argv[1], 'it').cents)\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())])}

    def run(*args: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code, *args], capture_output=True, text=True, check=True, env=env
        ).stdout.strip()

    assert run() == '{"$value":7,"format":"shop-money/1"}'
    assert run(run()) == "7"


# ---- pickle


class Fitted:
    """As a fitted model is one: no format takes it."""

    def __init__(self, weights: Any) -> None:
        self.weights = weights


Opened = Annotated[Fitted, Pickled]


@pytest.mark.parametrize("annotation", [Opened, Annotated[Fitted, Pickled()], Opened | None])
def test_a_value_is_pickled_if_the_annotation_says_so(annotation: Any) -> None:
    codec = Codec(annotation)

    text, first = codec.round_trip(Fitted(np.arange(3)), "it")
    replayed = codec.decode(text, "it")

    assert msgspec.json.decode(text)["format"] == "pickle/1"
    assert [look(each.weights) for each in (first, replayed)] == [look(np.arange(3))] * 2


def test_a_class_is_not_hopeless_if_its_pickle_is_asked_for(tmp_path: Path) -> None:
    def fit() -> Opened:
        return Fitted([1])

    def workflow(ctx: Context) -> list[int]:
        return list(ctx.step(fit).weights)

    with Engine(tmp_path / "workflow.db") as engine:
        assert engine.run("wf", workflow) == [1]


class Trap:
    def __reduce__(self) -> Any:
        return (exec, ("import tests.values.test_formats as t; t.sprung.append(1)",))


sprung: list[int] = []


@pytest.mark.parametrize("annotation", [Any, Fitted, list, Annotated[Fitted, MoneyFormat()]])
def test_a_pickle_is_not_read_because_a_row_says_so(annotation: Any) -> None:
    import base64

    held = base64.b64encode(pickle.dumps(Trap())).decode()
    text = f'{{"$value":{{}},"format":"pickle/1","buffers":["{held}"]}}'

    with pytest.raises(SerializationError, match=r"annotate it Annotated\[\.\.\., durable\.formats\.Pickled\]"):
        Codec(annotation).decode(text, "it")

    assert sprung == []


@pytest.mark.parametrize(
    "name", ["os:abort", "subprocess:Popen.__init__", "shutil:rmtree", "nowhere:x", "builtins:exec"]
)
def test_a_row_names_no_function_of_the_standard_library(name: str) -> None:
    text = f'{{"$value":{{"factory":{{"$value":"{name}","format":"name/1"}},"items":{{}}}},"format":"defaultdict/1"}}'

    with pytest.raises(SerializationError, match=f"which names {name}"):
        PLAIN.decode(text, "it")


# ---- changes since a value was saved


def test_a_format_that_is_not_known_any_more_is_refused_by_name() -> None:
    with pytest.raises(SerializationError, match="saved in the format 'gone/1', and none is registered by that name"):
        PLAIN.decode('{"$value":1,"format":"gone/1"}', "it")


def test_a_value_of_another_version_of_its_library_is_read_if_it_is_encoded_to_the_same() -> None:
    text = PLAIN.encode(FRAME, "it")
    older = text.replace(f'"versions":{{"pandas":"{pd.__version__}"}}', '"versions":{"pandas":"0.1"}')
    assert older != text

    assert look(PLAIN.decode(older, "it")) == look(FRAME)


def test_a_value_that_another_version_of_its_library_reads_otherwise_is_refused() -> None:
    text = PLAIN.encode(pd.Timedelta("1s"), "it")
    older = text.replace(pd.__version__, "0.1").replace("0 days 00:00:01", "1 second")
    assert older != text

    with pytest.raises(SerializationError, match=r"was saved under pandas 0\.1, and is another value now"):
        PLAIN.decode(older, "it")


def test_a_zone_of_pytz_needs_pytz(monkeypatch: pytest.MonkeyPatch) -> None:
    value = pd.Timestamp("2026-01-01", tz=ZoneInfo("Europe/Berlin"))
    text = PLAIN.encode(value, "it")
    older = text.replace('{"$value":"Europe/Berlin","format":"zone/1"}', '["pytz","Europe/Berlin"]')
    assert older != text

    monkeypatch.setitem(sys.modules, "pytz", None)
    with pytest.raises(SerializationError, match="whose time zone Europe/Berlin is one of pytz; install pytz to read"):
        PLAIN.decode(older, "it")


def test_a_model_may_get_fields_with_defaults_and_lose_none() -> None:
    def define(**fields: Any) -> Any:
        return pydantic.create_model("Order", __module__=__name__, **fields)

    def read(kind: Any) -> Any:
        globals()["Order"] = kind
        return PLAIN.decode(text, "it")

    kind = globals()["Order"] = define(number=(int, ...), note=(str, ""))
    text = PLAIN.encode(kind(number=7), "it")

    grown = read(define(number=(int, ...), note=(str, ""), tags=(list, pydantic.Field(default_factory=list))))
    assert (grown.tags, grown.model_fields_set) == ([], {"number"})
    with pytest.raises(SerializationError, match="has no field 'note' any more"):
        read(define(number=(int, ...)))
    with pytest.raises(SerializationError, match="has a new field 'weight'; give it a default"):
        read(define(number=(int, ...), note=(str, ""), weight=(float, ...)))


# ---- large values


class Shelf:
    """A store of large values in memory."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[bytes, list[bytes]]] = {}

    def put(self, head: bytes, buffers: Any, on_part: Any = None) -> str:
        sha256 = digest(head, [memoryview(each) for each in buffers])
        self.held[sha256] = head, [bytes(each) for each in buffers]
        return sha256

    def get(self, sha256: str, subject: object = None) -> tuple[bytes, list[memoryview]]:
        head, buffers = self.held[sha256]
        return head, [memoryview(bytearray(each)) for each in buffers]


@pytest.mark.parametrize(
    "value",
    [
        pd.DataFrame({"a": np.arange(10_000), "b": ["x"] * 10_000}),
        np.zeros((100, 200), order="F"),
        pd.Series([(1, n) for n in range(9_000)], dtype=object),
        {"same": [np.arange(9_000), np.arange(9_000)], "small": np.arange(3)},
    ],
    ids=["frame", "array", "objects", "twice"],
)
def test_a_large_value_goes_into_the_store_and_its_row_says_what_it_is(value: Any) -> None:
    shelf = Shelf()

    text, first = PLAIN.round_trip(value, "it", shelf.put)
    replayed = PLAIN.decode(text, "it", shelf.get)

    assert len(text) < 1_000
    assert len(shelf.held) == 1
    assert next(iter(shelf.held)) in text
    assert look(first) == look(replayed) == look(value)
    with pytest.raises(SerializationError, match="is a large value of format"):
        PLAIN.decode(text, "it")


def test_the_first_run_gets_large_values_that_share_nothing() -> None:
    made = np.arange(9_000)

    _, [one, other] = PLAIN.round_trip([made, made], "it", Shelf().put)
    one[0] = 7

    assert (made[0], other[0]) == (0, 0)


def test_up_to_64_kib_stay_in_the_row() -> None:
    shelf = Shelf()

    PLAIN.encode(np.zeros(64 * 1024 - 100, "int8"), "it", shelf.put)
    assert shelf.held == {}
    PLAIN.encode(np.zeros(64 * 1024 + 1, "int8"), "it", shelf.put)
    assert len(shelf.held) == 1


# ---- without the libraries


def test_nothing_of_numpy_pandas_pydantic_or_formats_is_imported_and_all_else_works_without_them(
    tmp_path: Path,
) -> None:
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numpy", "pandas", "pydantic", "attrs", "attr", "pyarrow"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import math, dataclasses
from pathlib import Path
from durable import Context, Engine, SerializationError
assert not [name for name in sys.modules if name.startswith("durable.values.formats")]

@dataclasses.dataclass
class Point:
    x: float
    at: Path

def make() -> Point:
    return Point(1.5, Path("a"))

def plain() -> int:
    return 1

def workflow(ctx: Context) -> list[float]:
    ctx.step(plain)
    assert "durable.values.formats.pack" not in sys.modules
    assert ctx.step(make) == Point(1.5, Path("a"))
    try:
        ctx.step("no", lambda: object())
    except SerializationError:
        raise KeyboardInterrupt
    return []

with Engine(sys.argv[1]) as engine:
    try:
        engine.run("wf", workflow)
    except (KeyboardInterrupt, SerializationError):
        pass
    print([step.status for step in engine.steps("wf")])
assert not [name for name in sys.modules if name.partition(".")[0] in ("numpy", "pandas", "pydantic")]
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "workflow.db")], capture_output=True, text=True, check=False
    )

    assert (ran.stdout.strip(), ran.stderr) == ("['completed', 'completed', 'running']", "")


def test_a_format_raises_its_error_from_the_public_module() -> None:
    class Never(MoneyFormat):
        name = "never/1"

        def dump(self, value: Any) -> tuple[Any, Sequence[bytes]]:
            raise FormatError("which is never stored; return its cents")

    with pytest.raises(SerializationError, match="it has a Money, which is never stored; return its cents"):
        Codec(Annotated[Money, Never()]).encode(Money(1), "it")
