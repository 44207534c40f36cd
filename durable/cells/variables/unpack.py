"""Unpack: the variables of a tree, as `pack.py` has it, with all that they share."""

from __future__ import annotations

import base64
import enum
import io
import pickle
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from durable.cells.variables import generators
from durable.cells.variables.graph import ORDERED, PAIRS, find, is_instance, is_plain, state_of
from durable.cells.variables.pack import EXACT, PICKLED, TAG
from durable.values.codec import codec_of

_KINDS: dict[str, Any] = {name: kind for kind, name in (*ORDERED.items(), *PAIRS.items())}


class Unpacker:
    """Makes the variables of a tree again. `variables` are those that it may name.

    The tree comes from a file: it calls nothing but what makes plain values, and unpickles only if `pickled` says so.
    """

    def __init__(self, variables: dict[str, Any], *, pickled: bool = False) -> None:
        self._variables, self._may_unpickle = variables, pickled
        self._shared: dict[int, Any] = {}

    def unpack(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return the variables. Raises AttributeError or ImportError for a class that is not there any more."""
        made = {name: self._make(node) for name, node in tree.items() if name != PICKLED}
        if PICKLED in tree and not self._may_unpickle:
            raise LookupError("it holds pickled variables, and no --pickle names them")
        if PICKLED in tree:
            made |= _Unpickler(io.BytesIO(_bytes_of(tree[PICKLED]["v"])), self._known).load()
        return made

    def _known(self, name: int | list[Any]) -> Any:
        return self._shared[name] if isinstance(name, int) else self._look_up(*name)

    def _make(self, node: Any, number: int | None = None) -> Any:
        kind = type(node)
        if kind is list:
            return self._fill(node, number)
        if kind is not dict:
            return self._note(number, node)
        if TAG not in node:
            made: dict[str, Any] = self._note(number, {})
            made.update((name, self._make(part)) for name, part in node.items())
            return made
        tag = node[TAG]
        if tag == "def":
            return self._make(node["v"], node["n"])
        if tag == "ref":
            return self._shared[node["n"]]
        if tag == "outside":
            return self._look_up(*node["v"])
        if tag == "instance":
            return self._make_instance(node, number)
        return self._note(number, self._make_tagged(tag, node, number))

    def _note(self, number: int | None, value: Any) -> Any:
        if number is not None:
            self._shared[number] = value
        return value

    def _fill(self, nodes: list[Any], number: int | None = None) -> list[Any]:
        made: list[Any] = self._note(number, [])
        made.extend(nodes if is_plain(nodes) else map(self._make, nodes))
        return made

    def _make_tagged(self, tag: str, node: dict[str, Any], number: int | None) -> Any:
        held = node["v"]
        if tag == "lines":
            return find("IPython.utils.text:SList")(held)
        if tag == "float":
            return float(held)
        if tag in ("bytes", "bytearray"):
            return (bytes if tag == "bytes" else bytearray)(_bytes_of(held))
        if tag == "native":
            return codec_of(_find(node, EXACT), "it").decode(held, "it")
        if tag == "member":
            return _find(node, (enum.Enum,))[held]
        if tag == "name":
            return find(held)
        if tag == "generator":
            return generators.make(find(node["class"]), self._make(held))
        if tag == "deque":
            made = self._note(number, deque(maxlen=node.get("maxlen")))
            made.extend(self._fill(held))
            return made
        if tag in ORDERED.values():
            return _KINDS[tag](self._fill(held))
        return self._make_pairs(tag, node, number)

    def _make_pairs(self, tag: str, node: dict[str, Any], number: int | None) -> Any:
        made = defaultdict(self._make(node["factory"])) if tag == "defaultdict" else _KINDS[tag]()
        self._note(number, made)
        for name, part in node["v"]:
            made[self._make(name)] = self._make(part)
        return made

    def _make_instance(self, node: dict[str, Any], number: int | None) -> Any:
        kind, held = find(node["class"]), node["v"]
        if type(held) is list:
            return self._note(number, _find(node, (tuple,))(*self._fill(held)))
        made = self._note(number, object.__new__(kind))
        for name, part in held.items():
            object.__setattr__(made, name, self._make(part))
        return made

    def _look_up(self, name: str, *steps: Any) -> Any:
        value = self._variables[name]
        for step in steps:
            value = state_of(value)[step] if is_instance(value) and not isinstance(value, tuple) else value[step]
        return value


def _find(node: dict[str, Any], bases: tuple[type, ...]) -> Any:
    """Return the class of a node, which must be one of these or derived from one."""
    kind = find(node["class"])
    if not (isinstance(kind, type) and issubclass(kind, bases)):
        raise TypeError(f"{node['class']} is no class of such a value")
    return kind


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, known: Callable[[Any], Any]) -> None:
        super().__init__(file)
        self._known = known

    def persistent_load(self, pid: Any) -> Any:
        """See `pickle`."""
        return self._known(pid)


def _bytes_of(held: Any) -> bytes:
    return base64.b64decode(held) if isinstance(held, str) else held.tobytes()
