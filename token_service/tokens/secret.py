"""Bytes that must never be shown."""

from __future__ import annotations

from typing import Final, NoReturn


class Secret:
    """Secret bytes whose `repr`, `str` and pickle give nothing away. Read them with `reveal()`."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value: Final = value

    def reveal(self) -> bytes:
        """The secret itself. Never log it, never put it in an error."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret would leak equality

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret can't be pickled")
