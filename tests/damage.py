"""What files suffer: cut, a bit flipped, emptied, another kind of file in their place."""

from __future__ import annotations

from collections.abc import Callable


def flipped(content: bytes, place: int = -9, bit: int = 0) -> bytes:
    """With another bit of the byte at a place; by default one that every sealed or packed file of ours reads."""
    place %= len(content)
    return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


def cut(content: bytes, length: int | None = None) -> bytes:
    """The first bytes, by default the first half."""
    return content[: len(content) // 2 if length is None else length]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": cut,
    "one bit flipped": flipped,
    "empty": lambda content: b"",
    "something else": lambda content: b'{"a": 1}',
}
