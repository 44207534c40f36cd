"""Formats: how values of a type are stored. `register` tells of others; an annotation may ask for one by name."""

from __future__ import annotations

from durable.values.formats.pickled import Pickled
from durable.values.formats.registry import Buffer, Format, FormatError, register

__all__ = ["Buffer", "Format", "FormatError", "Pickled", "register"]
