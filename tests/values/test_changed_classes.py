"""Classes that change between two runs of a workflow: what goes on, and what is refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from enum import IntEnum, StrEnum
from http import HTTPStatus
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple, TypedDict

import attrs
import msgspec
import pytest

from durable import Context, Engine, NonDeterminismError, SerializationError, WorkflowConflictError
from durable.replay import Operation
from durable.store.transaction import Transaction
from durable.values.codec import are_same_arguments, codec_of_result, decode_arguments, encode_arguments

effects: list[str] = []


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    effects.clear()
    with Engine(tmp_path / "workflow.db") as engine:
        yield engine


# ---- two versions of a class

FIELDS: dict[str, Any] = {"number": int}
NEW_FIELDS: dict[str, tuple[Any, Any]] = {"note": (str, ""), "tags": (list[str], list)}


def with_factory(default: Any, factory: Callable[..., Any], plain: Callable[..., Any]) -> Any:
    return factory(default) if isinstance(default, type) else plain(default)


def make_dataclass(old: dict[str, Any], new: dict[str, tuple[Any, Any]], **options: Any) -> type:
    added = [
        (name, kind, with_factory(default, lambda f: dataclasses.field(default_factory=f), lambda d: d))
        for name, (kind, default) in new.items()
    ]
    return dataclasses.make_dataclass("Order", [*old.items(), *added], **options)


def make_slotted(old: dict[str, Any], new: dict[str, tuple[Any, Any]]) -> type:
    return make_dataclass(old, new, slots=True)


def make_struct(old: dict[str, Any], new: dict[str, tuple[Any, Any]]) -> type:
    added = [
        (name, kind, with_factory(default, lambda f: msgspec.field(default_factory=f), lambda d: d))
        for name, (kind, default) in new.items()
    ]
    return msgspec.defstruct("Order", [*old.items(), *added])


def make_attrs(old: dict[str, Any], new: dict[str, tuple[Any, Any]]) -> type:
    fields = {name: attrs.field(type=kind) for name, kind in old.items()} | {
        name: with_factory(
            default, lambda f, t=kind: attrs.field(factory=f, type=t), lambda d, t=kind: attrs.field(default=d, type=t)
        )
        for name, (kind, default) in new.items()
    }
    return attrs.make_class("Order", fields)


KINDS = {"dataclass": make_dataclass, "slots": make_slotted, "Struct": make_struct, "attrs": make_attrs}


# ---- two versions of the code


def code(order: type, *, crashes: bool) -> dict[str, Callable[..., Any]]:
    """Workflow functions, each with an argument of the class, as one version of the code has them."""

    def fetch(number: int) -> order:  # type: ignore[valid-type]
        effects.append("fetch")
        return order(number)

    def charge(given: Any) -> int:
        effects.append("charge")
        return int(given.number)

    def save(_: Transaction, given: Any) -> int:
        return charge(given)

    def below(_: Context, given: order) -> int:  # type: ignore[valid-type]
        return charge(given)

    def undo(given: Any) -> None:
        effects.append(f"undo {given.number}")

    def last() -> None:
        if crashes:
            raise KeyboardInterrupt

    def step(ctx: Context, given: order) -> int:  # type: ignore[valid-type]
        ctx.step(charge, ctx.step(fetch, 7))
        ctx.step(charge, order(8))
        ctx.submit(charge, given).result()
        ctx.step(last)
        return int(given.number)

    def child(ctx: Context, given: order) -> int:  # type: ignore[valid-type]
        paid = ctx.child(below, order(8)).result() + ctx.child(below, given).result()
        ctx.step(last)
        return int(paid)

    def transaction(ctx: Context, given: order) -> int:  # type: ignore[valid-type]
        paid = ctx.transaction(save, order(8)) + ctx.transaction(save, given)
        ctx.step(last)
        return paid

    def compensation(ctx: Context, given: order) -> int:  # type: ignore[valid-type]
        ctx.on_failure(undo, order(8))
        ctx.on_failure(undo, given)
        ctx.step(last)
        raise ValueError("no")

    functions: dict[str, Callable[..., Any]] = {
        "step": step, "child": child, "transaction": transaction, "compensation": compensation,
    }  # fmt: skip
    for each in (*functions.values(), fetch, below):
        each.__annotations__ = {name: order if hint == "order" else hint for name, hint in each.__annotations__.items()}
    return functions


# ---- fields added


@pytest.mark.parametrize("how", ["step", "child", "transaction", "compensation"])
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_workflow_goes_on_when_a_class_has_got_fields_with_defaults(
    engine: Engine, make: Callable[..., type], how: str
) -> None:
    old, new = make(FIELDS, {}), make(FIELDS, NEW_FIELDS)
    with pytest.raises(KeyboardInterrupt):
        engine.run("wf", code(old, crashes=True)[how], old(7))
    before = list(effects)

    try:
        ended: Any = engine.run("wf", code(new, crashes=False)[how], new(7))
    except ValueError as error:
        ended = str(error)

    assert ended == {"step": 7, "child": 15, "transaction": 15, "compensation": "no"}[how]
    assert effects == [*before, *(["undo 7", "undo 8"] if how == "compensation" else [])]


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_call_with_a_new_field_of_its_default_is_the_same_call(engine: Engine, make: Callable[..., type]) -> None:
    old, new = make(FIELDS, {}), make(FIELDS, NEW_FIELDS)
    first = engine.run("wf", code(old, crashes=False)["transaction"], old(7))
    done = list(effects)

    assert engine.run("wf", code(new, crashes=False)["transaction"], new(7)) == first
    assert effects == done


# ---- fields removed or renamed


def run_with(engine: Engine, fn: Callable[..., Any], *args: Any, crashes: bool = False) -> Any:
    """Run a workflow of one step, or with one argument, in the code's version of now."""

    def workflow(ctx: Context, *given: Any) -> Any:
        value = given[0] if given else ctx.step(fn)
        if crashes:
            raise KeyboardInterrupt
        return type(value).__name__

    if args:
        workflow.__annotations__ = {"given": fn}
    return engine.run("wf", workflow, *args)


def making(kind: Any, value: Any) -> Callable[[], Any]:
    def make() -> Any:
        return value

    make.__annotations__ = {"return": kind}
    return make


def refusal_of(engine: Engine, recorded: tuple[Any, Any], kind: Any) -> SerializationError:
    """Have a value of a type recorded, and return what is raised when the code has another type."""
    with pytest.raises(KeyboardInterrupt):
        run_with(engine, making(*recorded), crashes=True)
    with pytest.raises(SerializationError) as caught:
        run_with(engine, making(kind, None))
    assert engine.workflow("wf").status == "running"
    assert run_with(engine, making(*recorded)) == type(recorded[1]).__name__  # the field brought back
    return caught.value


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_recorded_field_that_the_class_no_longer_has_is_refused_by_name(
    engine: Engine, make: Callable[..., type]
) -> None:
    old, new = make(FIELDS | {"note": str}, {}), make(FIELDS, {})

    error = refusal_of(engine, (old, old(7, "x")), new)

    assert "step 'make_1' of 'wf'" in error.subject
    assert "Order has no field 'note' any more, at $; bring the field back" in str(error).replace(")", "")


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_renamed_field_with_a_default_is_refused_by_the_old_name(engine: Engine, make: Callable[..., type]) -> None:
    old, new = make(FIELDS, {"note": (str, "")}), make(FIELDS, {"remark": (str, "")})

    assert "no field 'note'" in str(refusal_of(engine, (old, old(7, "x")), new))


WITHIN: list[tuple[str, Callable[[Any], Any], Callable[[Any], Any], str]] = [
    ("a list", lambda kind: list[kind], lambda value: [value, value], "$[0]"),
    ("a tuple", lambda kind: tuple[int, kind], lambda value: (1, value), "$[1]"),
    ("a dict", lambda kind: dict[str, kind], lambda value: {"a": value}, "$.a"),
    ("a set", lambda kind: frozenset[kind], lambda value: frozenset({value}), "$[...]"),
    ("what may be None", lambda kind: kind | None, lambda value: value, "$"),
]


@pytest.mark.parametrize(("hint", "wrap", "place"), [each[1:] for each in WITHIN], ids=[each[0] for each in WITHIN])
def test_a_lost_field_within_another_value_is_refused_with_its_place(
    engine: Engine, hint: Callable[[Any], Any], wrap: Callable[[Any], Any], place: str
) -> None:
    old = make_dataclass(FIELDS | {"note": str}, {}, frozen=True)
    new = make_dataclass(FIELDS, {}, frozen=True)

    error = refusal_of(engine, (hint(old), wrap(old(7, "x"))), hint(new))

    assert f"Order has no field 'note' any more, at {place})" in str(error)


def test_a_lost_field_of_a_typed_dict_and_of_a_field_is_refused(engine: Engine) -> None:
    old, new = TypedDict("Movie", {"title": str, "year": int}), TypedDict("Movie", {"title": str})  # type: ignore[misc]
    outer = dataclasses.make_dataclass("Outer", [("movie", old)]), dataclasses.make_dataclass("Outer", [("movie", new)])

    error = refusal_of(engine, (outer[0], outer[0]({"title": "a", "year": 1})), outer[1])

    assert "the field 'year' at $.movie" in str(error)


def test_a_lost_field_of_an_argument_is_refused(engine: Engine) -> None:
    old, new = make_dataclass(FIELDS | {"note": str}, {}), make_dataclass(FIELDS, {})

    def workflow(_: Context, given: Any) -> int:
        if isinstance(given, old):
            raise KeyboardInterrupt
        return int(given.number)

    workflow.__annotations__ = {"given": old}
    with pytest.raises(KeyboardInterrupt):
        engine.run("wf", workflow, old(7, "x"))
    again = FunctionType(workflow.__code__, workflow.__globals__, "workflow", None, workflow.__closure__)
    again.__qualname__, again.__annotations__ = workflow.__qualname__, {"given": new}
    registered = Engine(engine.path, modules=[])
    with registered, pytest.raises(WorkflowConflictError):
        registered.run("wf", again, new(7))
    with pytest.raises(SerializationError, match="no field 'note'"):
        decode_arguments(again, '{"given":{"number":7,"note":"x"}}', "workflow 'wf'")


class Tagged(msgspec.Struct, tag="tagged", rename="camel", omit_defaults=True):
    order_number: int
    note: str = ""


class Placed(msgspec.Struct, array_like=True):
    left: int
    right: int = 0


def test_what_is_stored_under_another_name_or_in_another_order_is_no_loss(engine: Engine) -> None:
    frozen = make_dataclass(FIELDS, {}, frozen=True)
    values: list[tuple[Any, Any, str]] = [
        (Tagged, Tagged(1), '{"note":"","type":"tagged","orderNumber":1}'),
        (Placed, Placed(1, 2), "[1, 2]"),
        (frozenset[frozen], frozenset({frozen(1), frozen(2)}), '[{"number":2},{"number":1}]'),
        (dict[int, frozen], {1: frozen(1)}, '{"1": {"number": 1}}'),
        (list[Tagged | None], [None, Tagged(1)], '[null, {"type":"tagged","orderNumber":1}]'),
    ]
    for kind, value, text in values:
        assert codec_of_result(making(kind, value), "a step").decode(text, "a step") == value


# ---- the cell of a class run again

CLASS = """
from dataclasses import dataclass
@dataclass
class Employee:
    id: str
"""
FUNCTIONS = """
def create(name: str) -> {hint}:
    return Employee(name)

def onboard(ctx, name: str) -> str:
    return ctx.step(create, name).id

def welcome(ctx, employee: {hint}) -> {hint}:
    return employee
"""


def run_cell(code: str, cells: dict[str, Any]) -> None:
    exec(compile(code, "a cell", "exec", dont_inherit=True), cells)


def notebook(hint: str) -> dict[str, Any]:
    cells: dict[str, Any] = {"__name__": "__main__"}
    run_cell(CLASS, cells)
    run_cell(FUNCTIONS.format(hint=hint), cells)
    return cells


@pytest.mark.parametrize("hint", ["'Employee'", "'list[Employee] | Employee | None'"])
def test_an_annotation_that_is_text_means_the_class_of_now(engine: Engine, hint: str) -> None:
    cells = notebook(hint)
    engine.run("first", cells["onboard"], "a")
    engine.run("second", cells["welcome"], cells["Employee"]("a"))

    run_cell(CLASS, cells)  # the cell is run again

    assert engine.run("third", cells["onboard"], "a") == "a"
    assert engine.run("fourth", cells["welcome"], cells["Employee"]("a")) == cells["Employee"]("a")
    assert type(engine.run("second", cells["welcome"], cells["Employee"]("a"))) is cells["Employee"]


def test_a_class_that_was_defined_again_is_named_as_the_cause(engine: Engine) -> None:
    cells = notebook("Employee")
    engine.run("first", cells["onboard"], "a")
    run_cell(CLASS, cells)

    with pytest.raises(SerializationError, match="whose class was defined again after the function"):
        engine.run("second", cells["onboard"], "a")
    with pytest.raises(SerializationError, match="whose class was defined again after the function"):
        engine.run("third", cells["welcome"], cells["Employee"]("a"))

    run_cell(FUNCTIONS.format(hint="Employee"), cells)  # as the message says
    assert engine.run("second", cells["onboard"], "a") == "a"


# ---- members and fields put before others


def make_level(*members: str, start: int = 1) -> Any:
    return IntEnum("Level", members, start=start)  # type: ignore[misc]


def make_pair(*fields: str) -> Any:
    return namedtuple_of("Pair", [(name, int) for name in fields], (0,) * len(fields))


def namedtuple_of(name: str, fields: list[tuple[str, type]], defaults: tuple[Any, ...]) -> Any:
    kind: Any = NamedTuple(name, fields)  # type: ignore[misc]
    kind.__new__.__defaults__ = defaults
    kind._field_defaults = {name: default for (name, _), default in zip(fields, defaults, strict=True)}
    return kind


def make_placed(*fields: str) -> Any:
    return msgspec.defstruct("Pair", [(name, int, 0) for name in fields], array_like=True)


LEVEL = make_level("LOW", "HIGH")
SHIFTS: list[tuple[str, Any, Any, Any, str]] = [
    ("a member put before", LEVEL, LEVEL.HIGH, make_level("LOW", "MID", "HIGH"), '"MID":2'),
    ("members that changed places", LEVEL, LEVEL.HIGH, make_level("HIGH", "LOW"), '"HIGH":1'),
    ("another first number", LEVEL, LEVEL.LOW, make_level("NONE", "LOW", "HIGH"), '"NONE":1'),
    ("a member removed before", LEVEL, LEVEL.LOW, make_level("HIGH"), '"HIGH":1'),
    ("a field put before", make_pair("a", "b"), (1, 2), make_pair("a", "c", "b"), '["a","c","b"]'),
    ("fields that changed places", make_pair("a", "b"), (1, 2), make_pair("b", "a"), '["b","a"]'),
    ("a field of a Struct put before", make_placed("a", "b"), (1, 2), make_placed("c", "a", "b"), '["c","a","b"]'),
]
SHIFT_IDS = [case[0] for case in SHIFTS]
KEPT: list[tuple[str, Any, Any, Any, Any]] = [
    ("a member put after", LEVEL, LEVEL.HIGH, make_level("LOW", "HIGH", "TOP"), 2),
    ("a member renamed", LEVEL, LEVEL.HIGH, make_level("LOW", "TALL"), 2),
    ("a last member removed", LEVEL, LEVEL.LOW, make_level("LOW"), 1),
    ("a field put after", make_pair("a", "b"), (1, 2), make_pair("a", "b", "c"), (1, 2, 0)),
]


def value_of(kind: Any, value: Any) -> Any:
    return kind(*value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("wrap", [lambda kind: kind, lambda kind: list[kind] | None])
@pytest.mark.parametrize(("old", "value", "new", "shown"), [case[1:] for case in SHIFTS], ids=SHIFT_IDS)
def test_a_result_that_would_mean_something_else_is_refused_by_name(
    engine: Engine, old: Any, value: Any, new: Any, shown: str, wrap: Callable[[Any], Any]
) -> None:
    made = value_of(old, value) if wrap(old) is old else [value_of(old, value)]
    with pytest.raises(KeyboardInterrupt):
        run_with(engine, making(wrap(old), made), crashes=True)

    with pytest.raises(NonDeterminismError) as caught:
        run_with(engine, making(wrap(new), None))

    assert caught.value.step_key == "make_1"
    assert f'"{old.__name__}":' in caught.value.recorded
    assert shown in caught.value.called
    assert run_with(engine, making(wrap(old), None)) == type(made).__name__


@pytest.mark.parametrize(("old", "value", "new", "kept"), [case[1:] for case in KEPT], ids=[case[0] for case in KEPT])
def test_a_result_that_means_the_same_goes_on(engine: Engine, old: Any, value: Any, new: Any, kept: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_with(engine, making(old, value_of(old, value)), crashes=True)
    seen: list[Any] = []

    def workflow(ctx: Context) -> str:
        seen.append(ctx.step(making(new, None)))
        return ""

    workflow.__qualname__ = run_with.__qualname__ + ".<locals>.workflow"
    engine.run("wf", workflow)

    assert seen == [kept]


def test_a_step_that_has_no_result_yet_is_begun_anew(engine: Engine) -> None:
    def workflow_of(kind: Any, error: type[BaseException] | None) -> Callable[[Context], Any]:
        def make() -> Any:
            if error is not None:
                raise error
            return kind.HIGH

        def workflow(ctx: Context) -> int:
            return int(ctx.step(make))

        make.__annotations__ = {"return": kind}
        return workflow

    with pytest.raises(KeyboardInterrupt):
        engine.run("wf", workflow_of(LEVEL, KeyboardInterrupt))

    assert engine.run("wf", workflow_of(make_level("LOW", "MID", "HIGH"), None)) == 3


@pytest.mark.parametrize(("old", "value", "new", "_"), [case[1:] for case in SHIFTS], ids=SHIFT_IDS)
def test_an_argument_that_would_mean_something_else_is_refused_by_name(
    engine: Engine, old: Any, value: Any, new: Any, _: str
) -> None:
    def workflow(_: Context, given: Any) -> None:
        raise KeyboardInterrupt

    workflow.__annotations__ = {"given": old}
    with pytest.raises(KeyboardInterrupt):
        engine.run("wf", workflow, value_of(old, value))
    recorded = engine.workflow("wf").arguments

    def later(_: Context, given: Any) -> None:
        raise AssertionError(given)

    later.__annotations__ = {"given": new}
    with pytest.raises(SerializationError, match=f"its arguments mean something else now: .*{old.__name__}"):
        decode_arguments(later, recorded, "workflow 'wf'")
    assert decode_arguments(workflow, recorded, "workflow 'wf'") == ((value_of(old, value),), {})


def test_what_an_older_version_recorded_is_taken_as_it_is(engine: Engine) -> None:
    def workflow(_: Context, given: Any) -> None:
        pass

    workflow.__annotations__ = {"given": LEVEL}

    assert decode_arguments(workflow, '{"given":2}', "workflow 'wf'") == ((LEVEL.HIGH,), {})
    assert are_same_arguments(workflow, '{"given":2}', encode_arguments(workflow, (LEVEL.HIGH,), {}, ""), "")
    assert Operation("step", "make", codec_of_result(making(LEVEL, 1), "")).matches("[]")


def test_an_enum_of_the_standard_library_is_not_written_down(engine: Engine) -> None:
    assert codec_of_result(making(HTTPStatus, None), "").places == ""
    assert codec_of_result(making(StrEnum("Word", ["YES"]), None), "").places == ""
