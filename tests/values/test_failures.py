"""Exceptions as they are recorded: each comes back as its own class, without a call of its constructor."""

import json
import threading
import urllib.error
from pathlib import Path
from typing import Any

import httpx
import pydantic
import pytest

from durable import StepError
from durable.errors import StoreError, WorkflowBusyError
from durable.values.failures import MAX_LEVELS, MAX_LINKED, decode_error, encode_error

made: list[str] = []


class QuotaError(Exception):
    """Its constructor takes keyword arguments alone, and must not run again."""

    def __init__(self, *, user: str, left: int) -> None:
        made.append(user)
        super().__init__()
        self.user, self.left = user, left

    def __str__(self) -> str:
        return f"{self.user} has {self.left} left"


class SlottedError(Exception):
    """Keeps an attribute in a slot."""

    __slots__ = ("code", "unset")

    def __init__(self, code: int) -> None:
        super().__init__("slotted")
        self.code = code


class CodedGroup(ExceptionGroup[Exception]):
    """A group with one argument more."""

    code: int

    def __new__(cls, message: str, errors: list[Exception], code: int) -> "CodedGroup":
        self = super().__new__(cls, message, errors)
        self.code = code
        return self

    def __init__(self, *_: object) -> None: ...


class LockError(Exception):
    """Its text is made of what cannot be stored."""

    def __init__(self, lock: Any) -> None:
        super().__init__()
        self.lock = lock

    def __str__(self) -> str:
        return f"locked: {self.lock.locked()}"


class Order(pydantic.BaseModel):
    """What a library validates."""

    amount: int
    paid_by: Any

    @pydantic.field_validator("paid_by")
    @classmethod
    def refuse(cls, value: Any) -> Any:
        """Refuse all."""
        raise ValueError("not paid")


def again(error: Exception) -> Any:
    """Return what a replay gets; what a workflow gets that has failed with that is the same."""
    first = decode_error(encode_error(error))
    second = decode_error(encode_error(first))
    assert (type(second), str(second), repr(vars(second))) == (type(second), str(first), repr(vars(first)))
    return first


def test_no_constructor_is_called() -> None:
    error = QuotaError(user="Jane", left=3)
    made.clear()

    assert vars(again(error)) == {"user": "Jane", "left": 3}
    assert made == []


def test_errors_of_httpx_come_back_as_their_class() -> None:
    request = httpx.Request("GET", "https://example.org")
    error = again(httpx.HTTPStatusError("404", request=request, response=httpx.Response(404)))

    assert (type(error), str(error)) == (httpx.HTTPStatusError, "404")
    assert error.__notes__ == ["recorded without _request, response, which JSON cannot hold; handle it within the step"]
    assert type(again(httpx.ConnectError("refused"))) is httpx.ConnectError


def test_errors_of_urllib_come_back_as_their_class() -> None:
    error = again(urllib.error.HTTPError("https://example.org", 404, "gone", {}, None))  # type: ignore[arg-type]

    assert (type(error), error.code, str(error)) == (urllib.error.HTTPError, 404, "HTTP Error 404: gone")
    error = again(urllib.error.URLError(ConnectionRefusedError(111, "refused")))
    assert isinstance(error.reason, ConnectionRefusedError)
    assert error.reason is error.args[0]
    assert error.reason.errno == 111


@pytest.mark.parametrize("amount", ["x", threading.Lock()], ids=["plain", "not plain"])
def test_an_error_of_pydantic_comes_back_as_its_class(amount: Any) -> None:
    with pytest.raises(pydantic.ValidationError) as raised:
        Order(amount=amount, paid_by="nobody")
    error = again(raised.value)

    assert isinstance(error, pydantic.ValidationError)
    assert str(error) == str(raised.value)
    assert [each["loc"] for each in error.errors()] == [("amount",), ("paid_by",)]
    assert repr(error.errors()[1]["ctx"]) == "{'error': ValueError('not paid')}"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(2, "gone", "a.txt", None, "b.txt"), {"errno": 2, "filename": "a.txt", "filename2": "b.txt"}),
        (ImportError("no such", name="shop", path="shop.py"), {"msg": "no such", "name": "shop", "path": "shop.py"}),
        (SyntaxError("bad", ("a.py", 3, 4, "x = ", 3, 5)), {"filename": "a.py", "lineno": 3, "text": "x = "}),
        (UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "bad"), {"object": b"a\xff", "start": 1, "reason": "bad"}),
        (SlottedError(7), {"code": 7}),
        (StoreError("it is away", path=Path("a.db")), {"path": Path("a.db")}),
        (WorkflowBusyError("emp_001", 7), {"workflow_id": "emp_001", "pid": 7}),
        (CodedGroup("two", [ValueError("a"), QuotaError(user="Jane", left=0)], 9), {"message": "two", "code": 9}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_attributes_come_back_wherever_the_class_keeps_them(error: Exception, told: dict[str, Any]) -> None:
    found = again(error)

    assert type(found) is type(error)
    assert repr(found.args) == repr(error.args)
    assert {name: getattr(found, name) for name in told} == told
    assert not hasattr(found, "__notes__")


def test_an_error_whose_text_cannot_be_made_again_says_what_it_said() -> None:
    error = again(LockError(threading.Lock()))

    assert isinstance(error, LockError)
    assert str(error) == "locked: False"
    assert type(error).__qualname__ == "LockError"


def test_causes_that_form_a_ring_and_long_chains_end() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__context__, two.args = two, one, ("two", one)
    chain = ValueError(0)
    for number in range(3 * MAX_LEVELS):
        chain, chain.__cause__ = ValueError(number), chain  # type: ignore[misc]
    found, long = again(one), again(chain)

    assert found.__cause__.__context__ is found
    assert found.__cause__.args[1] is found
    assert str(long.__cause__.__cause__) == str(3 * MAX_LEVELS - 3)


def test_a_group_of_many_comes_back_and_one_of_too_many_is_told_by_name() -> None:
    many = again(ExceptionGroup("many", [ValueError(number) for number in range(MAX_LINKED - 1)]))
    too_many = decode_error(encode_error(ExceptionGroup("many", [ValueError(number) for number in range(MAX_LINKED)])))

    assert len(many.exceptions) == MAX_LINKED - 1
    assert type(too_many) is StepError


@pytest.mark.parametrize("suppress", [True, False])
def test_what_from_none_hides_stays_hidden(suppress: bool) -> None:
    error = ValueError("shown")
    error.__context__, error.__suppress_context__ = KeyError("before"), suppress
    found = again(error)

    assert found.__suppress_context__ == suppress
    assert repr(found.__context__) == ("None" if suppress else "KeyError('before')")


# ---- records of files that an older version wrote


def record(**parts: Any) -> str:
    return json.dumps({"arguments": None, "notes": [], "traceback": ""} | parts)


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ({"type": "builtins:KeyError", "message": "'k'", "arguments": ["k"]}, KeyError("k")),
        (
            {"type": f"{__name__}:SlottedError", "message": "other", "arguments": [7], "attributes": {"more": 1}},
            StepError(f"{__name__}:SlottedError", "other"),  # its constructor gives another text
        ),
        ({"type": f"{__name__}:QuotaError", "message": "no"}, StepError(f"{__name__}:QuotaError", "no")),
        (
            {
                "type": "durable.errors:StoreError",
                "message": "away",
                "engine": {"path": "a.db"},
                "notes": ["a note"],
            },
            StoreError("away", path=Path("a.db")),
        ),
    ],
    ids=["by its constructor", "misfit", "not rebuilt", "of the engine"],
)
def test_an_error_that_an_older_version_recorded_is_read_as_before(parts: dict[str, Any], error: Exception) -> None:
    found = decode_error(record(**parts))

    assert (type(found), found.args, str(found)) == (type(error), error.args, str(error))
    assert getattr(found, "__notes__", []) == parts.get("notes", [])
    assert getattr(found, "path", None) == getattr(error, "path", None)


# ---- records that somebody else wrote


@pytest.mark.parametrize("maker", ["", "from_bytes", "mro", "with_traceback"])
def test_a_record_cannot_have_an_ordinary_class_made_by_something_else(maker: str) -> None:
    made.clear()
    text = encode_error(QuotaError(user="Jane", left=3))
    found = decode_error(json.dumps(json.loads(text) | {"maker": maker, "made_of": ["Joe"]}))

    assert type(found) is QuotaError
    assert made == ["Jane"]


def test_a_record_cannot_name_another_maker_of_pydantics_class() -> None:
    with pytest.raises(pydantic.ValidationError) as raised:
        Order(amount="x", paid_by="nobody")
    forged = json.loads(encode_error(raised.value)) | {"maker": "mro", "made_of": []}

    assert type(decode_error(json.dumps(forged))) is StepError
