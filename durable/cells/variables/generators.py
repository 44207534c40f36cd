"""Generators of random numbers: the state that each is in, and one in the same state again."""

from __future__ import annotations

import random
import sys
from typing import Any


def state_of(value: Any) -> Any:
    """Return the state of a generator as plain values and arrays; None for any other value."""
    if type(value) is random.Random:
        return value.getstate()
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if type(value) is numpy.random.RandomState:
        return value.get_state(legacy=False)
    if type(value) is not numpy.random.Generator:
        return None
    bits = value.bit_generator
    seeds = bits.seed_seq
    if type(seeds) is not numpy.random.SeedSequence:
        return None
    return {
        "bits": type(bits).__name__,
        "state": bits.state,
        "seeds": seeds.state,
    }


def make(kind: type, state: Any) -> Any:
    """Return a generator in this state."""
    if kind is random.Random:
        made = random.Random()
        made.setstate(state)
        return made
    import numpy as np

    name = state["bit_generator" if kind is np.random.RandomState else "bits"]
    kind_of_bits = getattr(np.random, name)
    if not issubclass(kind_of_bits, np.random.BitGenerator):
        raise TypeError(f"{name} makes no random bits")
    if kind is np.random.RandomState:
        old = np.random.RandomState(kind_of_bits())
        old.set_state(state)
        return old
    if kind is not np.random.Generator:
        raise TypeError(f"{kind.__name__} is no generator of random numbers")
    bits = kind_of_bits(np.random.SeedSequence(**state["seeds"]))
    bits.state = state["state"]
    return np.random.Generator(bits)


def states() -> dict[str, Any]:
    """Return the states of the generators that `random` and `numpy.random` share with all code."""
    numpy = sys.modules.get("numpy")
    found: dict[str, Any] = {"random": random.getstate()}
    if numpy is not None:
        found["numpy"] = numpy.random.get_state(legacy=False)
    return found


def restore(found: dict[str, Any]) -> None:
    """Put those back into their states."""
    if "random" in found:
        random.setstate(found["random"])
    if "numpy" in found:
        import numpy as np

        np.random.set_state(found["numpy"])  # noqa: NPY002 - it is the shared one


def differ(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether a number was drawn between these states."""
    if one["random"] != other["random"]:
        return True
    mine, theirs = one.get("numpy"), other.get("numpy")
    if mine is None or theirs is None:  # numpy was imported in between: a generator that was just seeded is no input
        return theirs is not None
    return bool(repr_of(mine) != repr_of(theirs))


def repr_of(state: dict[str, Any]) -> Any:
    """Return the state of `numpy.random`, to compare."""
    inner = state["state"]
    key = inner.get("key") if isinstance(inner, dict) else None
    rest = {name: part for name, part in state.items() if name != "state"}
    return (None if key is None else key.tobytes()), inner.get("pos"), sorted(rest.items())
