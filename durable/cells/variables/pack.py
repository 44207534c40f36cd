"""Pack: the variables of a cell as one tree of plain data, which tells what they share.

A part that two variables hold is stored once, and comes back as one object. Arrays, frames and other values with a
format stay as they are in the tree: the engine stores those. A value without exact form is refused, with its place.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import io
import math
import pickle
import sys
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from durable.cells.variables import generators
from durable.cells.variables.graph import (
    NATIVE,
    ORDERED,
    PAIRS,
    PLAIN,
    WITHIN,
    Place,
    is_holder,
    is_instance,
    is_mutable,
    is_plain,
    name_of,
    parts_of,
    reach,
    reference_to,
    root_of,
    state_of,
)
from durable.formats import Pickled
from durable.values.codec import codec_of
from durable.values.formats.registry import format_of

TAG = "$"
NO_FORM = "it has no exact form"
PICKLED = "$pickled"  # the variables that are pickled, as one
EXACT = (dt.datetime, dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID)


class Refusal(NamedTuple):
    """A part of a variable that has no exact form."""

    place: Place
    kind: str
    why: str

    @property
    def name(self) -> str:
        """The variable."""
        return str(self.place[0])

    def __str__(self) -> str:
        where = self.name + "".join(f"[{step!r}]" for step in self.place[1:])
        return f"{where} ({self.kind}): {self.why}"


class Packer:
    """Makes one tree of several variables. `refusals` has what it could not take."""

    def __init__(self, outside: dict[int, Place] | None = None, pickled: frozenset[str] = frozenset()) -> None:
        """`outside` are the parts of other variables: they are named, and not stored again."""
        self._outside, self._pickled = outside or {}, pickled
        self._places: dict[int, tuple[Any, Any]] = {}  # the node of each object, as a container of ours and a key
        self._numbers: dict[int, int] = {}
        self._roots: dict[int, Any] = {}
        self._within: dict[int, Place] = {}  # by what frames hold, which their format stores as a copy
        self._kept: list[Any] = []  # so that no identity is given again
        self.refusals: list[Refusal] = []
        self.code: set[Any] = set()  # the functions and classes that they hold, and the classes of instances

    def pack(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the tree of each variable."""
        tree: dict[str, Any] = {}
        pickled = {name: value for name, value in variables.items() if name in self._pickled}
        for name, value in variables.items():
            if name not in pickled:
                self._emit(value, tree, name, (name,))
        if pickled:
            self._pickle(pickled, tree)
        return tree

    def _emit(self, value: Any, parent: Any, key: Any, place: Place) -> None:
        if type(value) in PLAIN:
            parent[key] = value if type(value) is not float or math.isfinite(value) else {TAG: "float", "v": str(value)}
            return
        if is_mutable(value) or isinstance(value, tuple):
            if (holder := self._find_holder(value)) is not None:
                self._refuse(value, parent, key, place, f"{holder[0]!r} holds it, too; give each a copy")
                return
            if (known := self._outside.get(id(value))) is not None:
                parent[key] = {TAG: "outside", "v": list(known)}
                return
            if id(value) in self._places:
                parent[key] = {TAG: "ref", "n": self._number(value)}
                return
            self._places[id(value)] = (parent, key)
            self._kept.append(value)
        try:
            self._emit_new(value, parent, key, place)
        except RecursionError:
            self._refuse(value, parent, key, place, "it is nested too deeply")

    def _number(self, value: Any) -> int:
        """Return the number of a shared object; its first node says so from now on."""
        if id(value) not in self._numbers:
            number = self._numbers[id(value)] = len(self._numbers)
            parent, key = self._places[id(value)]
            parent[key] = {TAG: "def", "n": number, "v": parent[key]}
        return self._numbers[id(value)]

    def _emit_new(self, value: Any, parent: Any, key: Any, place: Place) -> None:
        kind = type(value)
        node: Any
        if kind is list:
            parent[key] = node = value if is_plain(value) else [None] * len(value)
            if node is not value:
                self._members(value, node, place)
        elif kind in ORDERED:
            members = sorted(value, key=repr) if kind in (set, frozenset) else list(value)
            node = parent[key] = {TAG: ORDERED[kind], "v": members}
            if not is_plain(members):
                node["v"] = [None] * len(members)
                self._members(members, node["v"], place)
            if kind is deque and value.maxlen is not None:
                node["maxlen"] = value.maxlen
        elif kind is dict and all(type(name) is str and TAG not in name for name in value):
            parent[key] = node = dict.fromkeys(value)
            for name, part in value.items():
                self._emit(part, node, name, (*place, name))
        elif kind in PAIRS:
            self._emit_pairs(value, parent, key, place)
        elif kind.__qualname__ == "SList" and kind.__module__ == "IPython.utils.text":  # the lines of `!command`
            parent[key] = {TAG: "lines", "v": list(value)}
        elif kind in (bytes, bytearray):
            parent[key] = {TAG: kind.__name__, "v": _text_of(value)}
        elif isinstance(value, NATIVE) and (kind in EXACT or isinstance(value, enum.Enum)):
            self._emit_native(value, parent, key, place)
        elif (state := generators.state_of(value)) is not None:
            self._claim(getattr(value, "bit_generator", value), value, parent, key, place)
            node = parent[key] = {TAG: "generator", "class": name_of(kind), "v": None}
            self._emit(state, node, "v", place)
        elif is_instance(value):
            self._emit_instance(value, parent, key, place)
        elif (reference := reference_to(value)) is not None:
            self.code.add(value)
            parent[key] = {TAG: "name", "v": reference}
        elif format_of(kind) is not None:
            self._emit_formatted(value, parent, key, place)
        else:
            self._refuse(value, parent, key, place, NO_FORM)

    def _members(self, values: Iterable[Any], node: list[Any], place: Place) -> None:
        for number, part in enumerate(values):
            self._emit(part, node, number, (*place, number))

    def _emit_pairs(self, value: Any, parent: Any, key: Any, place: Place) -> None:
        node = parent[key] = {TAG: PAIRS[type(value)], "v": [[None, None] for _ in value]}
        if isinstance(value, defaultdict):
            self._emit(value.default_factory, node, "factory", (*place, "default_factory"))
        for pair, (name, part) in zip(node["v"], value.items(), strict=True):
            self._emit(name, pair, 0, (*place, name))
            self._emit(part, pair, 1, (*place, name))

    def _emit_native(self, value: Any, parent: Any, key: Any, place: Place) -> None:
        kind = type(value)
        if isinstance(value, enum.Enum):
            if kind.__members__.get(value.name) is not value:
                return self._refuse(value, parent, key, place, "it is no single member of its class")
            parent[key] = {TAG: "member", "class": name_of(kind), "v": value.name}
            return None
        try:
            data = codec_of(kind, "it").encode(value, "it")
        except Exception as error:
            self._refuse(value, parent, key, place, str(error))
        else:
            parent[key] = {TAG: "native", "class": name_of(kind), "v": data}
        return None

    def _emit_instance(self, value: Any, parent: Any, key: Any, place: Place) -> None:
        self.code.add(type(value))
        if "<locals>" in type(value).__qualname__:
            return self._refuse(value, parent, key, place, "its class is local to a function; define it in a cell")
        node: Any = {TAG: "instance", "class": name_of(type(value)), "v": {}}
        parent[key] = node
        if isinstance(value, tuple):  # a NamedTuple
            node["v"] = [None] * len(value)
            self._members(value, node["v"], place)
            return None
        for name, part in state_of(value).items():
            node["v"][name] = None
            self._emit(part, node["v"], name, (*place, name))
        return None

    def _emit_formatted(self, value: Any, parent: Any, key: Any, place: Place) -> None:
        parent[key] = value
        self._claim(root_of(value), value, parent, key, place)
        for step, held in parts_of(value):
            for part in filter(is_holder, reach(held).values() if step is WITHIN else ()):
                if id(part) in self._places or id(part) in self._within or id(part) in self._outside:
                    kind = type(part).__name__
                    why = f"it holds a {kind} that is also held elsewhere; give each a copy"
                    return self._refuse(value, parent, key, place, why)
                self._within[id(part)] = place
        return None

    def _find_holder(self, value: Any) -> Place | None:
        """Return the place of the frame that holds a value."""
        outside = self._outside.get(id(value), ())
        return outside if WITHIN in outside else self._within.get(id(value))

    def _claim(self, root: Any, value: Any, parent: Any, key: Any, place: Place) -> None:
        """Refuse a value whose memory another has already."""
        other = self._roots.setdefault(id(root), place)
        self._kept.append(root)
        if other is not place:
            self._refuse(value, parent, key, place, f"it is a view of the same memory as {other[0]!r}; copy one")

    def _pickle(self, variables: dict[str, Any], tree: dict[str, Any]) -> None:
        """Pickle variables together, with names for the parts of others that they hold."""
        tree[PICKLED] = {TAG: "pickle", "v": ""}
        try:
            tree[PICKLED]["v"] = _text_of(Pickles(self._known).pickled(variables))
        except Exception as error:
            for name, value in variables.items():
                self._refuse(value, tree, name, (name,), f"it cannot be pickled ({error})")

    def _known(self, value: Any) -> Any:
        """Return how the tree names an object that it has already; None for any other."""
        if not is_mutable(value):
            return None
        if (holder := self._find_holder(value)) is not None:
            raise ValueError(f"{holder[0]!r} holds a part of it, too; give each a copy")
        if (place := self._outside.get(id(value))) is not None:
            return list(place)
        return self._number(value) if id(value) in self._places else None

    def _refuse(self, value: Any, parent: Any, key: Any, place: Place, why: str) -> None:
        parent[key] = None
        self.refusals.append(Refusal(place, name_of(type(value)).replace(":", "."), why))


class Pickles(Pickled):
    """The format of variables that a cell keeps by pickle: its bytes tell nothing of a generator but its state."""

    def __init__(self, known: Callable[[Any], Any] = lambda _: None) -> None:
        """`known` returns the name of what the tree has already."""
        self._known = known

    def pickled(self, value: Any) -> bytes:
        """Return the pickle of a value."""
        data = io.BytesIO()
        _Pickler(data, self._known).dump(value)
        return data.getvalue()


def can_pickle(value: Any) -> bool:
    """Return whether pickle keeps a value: a lock has no pickle, and that of a figure is never the same."""
    try:
        return bool(Pickles().dump(value))
    except Exception:  # it is the user's class that pickles
        return False


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, known: Callable[[Any], Any]) -> None:
        super().__init__(file, 5)
        self._known = known

    def persistent_id(self, obj: Any) -> Any:
        """See `pickle`."""
        return self._known(obj)

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle`. The seeds of an older generator are drawn anew in each process."""
        state = generators.state_of(obj)
        return NotImplemented if state is None else (generators.make, (type(obj), state))


_LARGE = 1 << 16


def _text_of(data: bytes | bytearray) -> Any:
    """Return bytes as the engine stores them: text, or apart if they are many."""
    numpy = sys.modules.get("numpy")
    if len(data) < _LARGE or numpy is None:
        return base64.b64encode(data).decode()
    return numpy.frombuffer(bytes(data), dtype="u1")
