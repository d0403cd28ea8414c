"""Spoils JSON values and bytes at random, always the same for the same generator."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np

Rng = np.random.Generator


def odd_values(rng: Rng) -> list[Any]:
    """Return values of all kinds, of which hardly one is meant anywhere."""
    deep: Any = []
    for _ in range(int(rng.choice([5, 60, 150]))):
        deep = [deep]
    return [
        *(None, True, False, 0, -1, 1, 2, 3, 4, 7, 255, 256, 65536, 2**31 - 1, 2**31, 2**32),
        *(2**40, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400, 10**4200, -(10**400)),
        *(0.0, -0.0, 0.5, 1.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), -float("inf")),
        *("", "text", "0", "12", "inf", "nan", "1e400", "\ud800", "\x00", "\x1b[2J", "../../x"),
        *("/etc/passwd", "__class__", "A" * 300_000, "é" * 50, "\n", "<b>bold</b>", "%s%n{0}"),
        *([], {}, [[]], [None], [0], [1], [-1], [1.5], ["a"], [float("nan")], [10**400], [True]),
        *([0, 0], [1, 1], [2**40] * 2, [2**62] * 2, [10**3000] * 2, [1] * 40, [0] * 5000),
        *({"a": 1}, {"": None}, {"shape": [2**62]}, {"state": "1"}, deep, {"deep": deep}),
    ]


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in a JSON value; of long lists only some."""
    found = [here]
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))[:8]
    else:
        return found
    for key, part in inside:
        found += places(part, (*here, key))
    return found


def changed(value: Any, rng: Rng, least_depth: int = 0) -> Any:
    """Return a copy of a JSON value with one thing in it changed."""
    value = copy.deepcopy(value)
    found = [place for place in places(value) if len(place) >= least_depth]
    if not found:
        return value
    place = found[rng.integers(len(found))]
    if not place:
        return _other(value, rng)
    home = value
    for key in place[:-1]:
        home = home[key]
    key = place[-1]
    match rng.integers(8):
        case 0:
            del home[key]
        case 1 if isinstance(home, dict):
            home[f"{key}{rng.choice(['', '_', ' ', '2', '/../x'])}x"] = home.pop(key)
        case 1 | 2 if isinstance(home, dict):
            home[str(rng.choice(["surprise", "__class__", "shape", "", "A" * 99]))] = home[key]
        case 3 if isinstance(home, list):
            home.insert(int(rng.integers(len(home) + 1)), _other(home[key], rng))
        case _:
            home[key] = _other(home[key], rng)
    return value


def _other(value: Any, rng: Rng) -> Any:
    """Something else than a value: near it, or anything."""
    near: list[Any] = [str(value)[:50], [value], {"value": value}]
    if isinstance(value, bool):
        near = [not value, int(value), str(value)]
    elif isinstance(value, int | float) and abs(value) < 1e100:
        near += [value + 1, value - 1, -value, value * 2, value * 1000, value / 3]
    elif isinstance(value, str):
        near += [value + "x", value[:-1], value.upper(), value * 1000]
    elif isinstance(value, list):
        near += [value[:-1], value[::-1], value * 2, value * 500, [*value, None]]
    choices = near if rng.random() < 0.4 else odd_values(rng)
    return choices[rng.integers(len(choices))]


def as_text(value: Any) -> str:
    """JSON text of a value, of a deep one too."""
    try:
        return json.dumps(value)
    except (RecursionError, OverflowError):
        return "[" * 20_000


def damaged(data: bytes, rng: Rng, other: bytes = b"") -> bytes:
    """Return bytes with flipped bits, other bytes, parts cut out, put in, doubled or swapped."""
    whole, size = bytearray(data), len(data)
    if not size:
        return bytes(rng.integers(0, 256, 9, np.uint8))
    # Headers are at the beginning: half of the damage goes there.
    place = int(rng.integers(size if rng.random() < 0.5 else min(size, 300)))
    more = bytes(rng.integers(0, 256, int(rng.integers(1, 40)), np.uint8))
    match rng.integers(9):
        case 0:
            return bytes(whole[:place])
        case 1:
            return bytes(whole[:place] + more + whole[place:])
        case 2:
            return bytes(whole[:place] + whole[place + len(more) :])
        case 3:
            whole[place : place + len(more)] = more
        case 4:
            whole[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, ord("9"), ord('"'), ord("[")]))
        case 5 if other:
            return bytes(whole[:place] + other[place:])
        case 6:
            end = int(rng.integers(place, size + 1))
            return bytes(whole[:end] + whole[place:])
        case 7:
            whole[place : place + 8] = int(rng.choice([2**63 - 1, 2**40, 2**32])).to_bytes(
                8, "little"
            )
        case _:
            for _ in range(int(rng.integers(1, 9))):
                whole[int(rng.integers(size))] ^= 1 << int(rng.integers(8))
    return bytes(whole)
