"""Secret bytes that no log and no error may contain."""

from __future__ import annotations

from typing import ClassVar, Final, NoReturn


class Secret:
    """Secret bytes. `repr` and `str` hide them, and pickling fails. `reveal()` returns them."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value: Final = value

    def reveal(self) -> bytes:
        """Return the secret bytes. Callers must never log them or put them in an error."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return NotImplemented

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # a hash of a secret would leak equality

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret can't be pickled")
