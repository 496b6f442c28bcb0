"""Files with one thing or a few made wrong, by chance."""

import random


def mutated(text: str, seed: int) -> bytes:
    """The text with one to three mutations."""
    chance = random.Random(seed)
    data = text.encode()
    for _ in range(chance.choice((1, 1, 2, 3))):
        data = chance.choice(_MUTATIONS)(data, chance)
    return data


def _flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 4))):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _type_over(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + bytes([chance.choice(b"0123456789.+-?eE()'\"; \n_xyz*#")]) + data[at + 1 :]


def _delete(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at + chance.choice((1, 1, 2, 8, 40)) :]


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _line_twice(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    at = chance.randrange(len(lines)) if lines else 0
    return b"".join([*lines[: at + 1], *lines[at:]])


def _line_lost(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    at = chance.randrange(len(lines)) if lines else 0
    return b"".join([*lines[:at], *lines[at + 1 :]])


def _lines_swapped(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if len(lines) > 1:
        i, j = chance.sample(range(len(lines)), 2)
        lines[i], lines[j] = lines[j], lines[i]
    return b"".join(lines)


def _words_swapped(data: bytes, chance: random.Random) -> bytes:
    words = data.split(b" ")
    if len(words) > 1:
        i, j = chance.sample(range(len(words)), 2)
        words[i], words[j] = words[j], words[i]
    return b" ".join(words)


def _another_value(data: bytes, chance: random.Random) -> bytes:
    words = data.split(b" ")
    values = (
        b"?",
        b".",
        b"nan",
        b"-1",
        b"1e300",
        b"1e-300",
        b"0",
        b"inf",
        b"0.5(3)",
        b"99999",
        b"''",
    )
    words[chance.randrange(len(words))] = chance.choice(values)
    return b" ".join(words)


_MUTATIONS = (
    _flip,
    _type_over,
    _delete,
    _cut,
    _line_twice,
    _line_lost,
    _lines_swapped,
    _words_swapped,
    _another_value,
)
