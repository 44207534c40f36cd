"""Formats of numpy's arrays and scalars: their bytes, beside their type and shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib import format as npy

from durable.values.formats.registry import Dumped, Format, FormatError

_OF_X87 = 63  # bits of the fraction of a number of 80 bits


class ArrayFormat(Format):
    """Stores an array as it is in memory, in the order of C or of Fortran; one with gaps comes back without them."""

    name = "array/1"

    def dump(self, value: Any) -> Dumped:
        if type(value) is not np.ndarray:
            if hasattr(value, "filled"):
                raise FormatError("which has a mask; fill it with .filled(...), or give its .data and its .mask")
            raise FormatError("which is more than an array; make it a plain one with numpy.asarray(...)")
        head: dict[str, Any] = {"dtype": dump_dtype(value.dtype), "shape": list(value.shape)}
        is_fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        if is_fortran:
            head["order"] = "F"
        if not value.flags.writeable:
            head["writeable"] = False
        return head, [_bytes_of(value.T if is_fortran else value)]

    def load(self, head: Any, buffers: Any) -> Any:
        dtype, shape, order = load_dtype(head["dtype"]), tuple(head["shape"]), head.get("order", "C")
        [data] = buffers
        if dtype.itemsize and math.prod(shape):
            array = np.frombuffer(data, dtype).reshape(shape, order=order)
        else:
            array = np.empty(shape, dtype, order)
        if not head.get("writeable", True):
            array.flags.writeable = False
        return array

    def preview(self, value: Any) -> str:
        """Return its type and shape."""
        return f"{value.dtype} array of {' x '.join(map(str, value.shape)) or 'no dimensions'}"


class CellsFormat(ArrayFormat):
    """Stores an array of cells, which pandas hands out as read-only, and takes back as one that may be changed."""

    name = "cells/1"

    def dump(self, value: Any) -> Dumped:
        return {"dtype": dump_dtype(value.dtype), "shape": list(value.shape)}, [_bytes_of(value)]


class Cells(np.ndarray):
    """An array that is stored so."""

    __durable_format__ = CellsFormat


class ScalarFormat(Format):
    """Stores a number under the name of its type; any other scalar as its bytes."""

    name = "scalar/1"

    def dump(self, value: Any) -> Dumped:
        if not isinstance(value, np.generic) or type(value).__module__ != "numpy":
            raise FormatError("which is more than a scalar of numpy; return it as a plain one")
        number = value.item()
        if type(number) in (bool, int, float) and np.dtype(value.dtype.name).type is type(value):
            return {value.dtype.name: number}, ()
        return {"dtype": dump_dtype(value.dtype)}, [_bytes_of(np.asarray(value))]

    def load(self, head: Any, buffers: Any) -> Any:
        [(kind, held)] = head.items()
        if kind != "dtype":
            dtype = np.dtype(kind)
            return np.int64(held).view(dtype) if dtype.kind in "mM" else dtype.type(held)
        dtype = load_dtype(held)
        return (np.frombuffer(buffers[0], dtype) if dtype.itemsize else np.empty(1, dtype))[0]

    def preview(self, value: Any) -> str:
        """Return the beginning of its text."""
        return str(value)[:80]


def _bytes_of(array: Any) -> Any:
    """Return the bytes of an array, without a copy if it has no gaps."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if not flat.nbytes:
        return b""
    data = flat.view(np.uint8)
    if array.dtype.char in "gG" and np.finfo(np.longdouble).nmant == _OF_X87:  # the rest of the 16 bytes is anything
        data = data.copy()
        data.reshape(-1, np.dtype(np.longdouble).itemsize)[:, 10:] = 0
    return data.data


def dump_dtype(dtype: Any) -> Any:
    """Return a type as JSON data. Raises FormatError for one that would come back as another."""
    if dtype.hasobject:
        raise FormatError("which holds objects; give it a type with .astype(...), or make it a list with .tolist()")
    if not dtype.metadata:  # else the next would warn
        descr: Any = npy.dtype_to_descr(dtype)
        back = npy.descr_to_dtype(descr)
        if dtype.type is np.record:
            back, descr = np.dtype((np.record, back)), {"record": descr}
        if (back, repr(back), type(back)) == (dtype, repr(dtype), type(dtype)):
            return descr
    raise FormatError(f"of type {dtype!r}, which has no exact form; give it another type with .astype(...)")


def load_dtype(descr: Any) -> Any:
    """Return the type that is in a head so."""
    try:
        if type(descr) is dict:
            return np.dtype((np.record, load_dtype(descr["record"])))
        return npy.descr_to_dtype(descr)
    except (TypeError, ValueError) as error:
        raise FormatError(f"of a type that this machine does not have ({error}); read it where it was saved") from None
