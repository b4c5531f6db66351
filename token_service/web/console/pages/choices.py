"""The choices of forms and their words in the pages: targets and reasons of revocations."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeVar

from token_service.errors import InvalidRequestError
from token_service.tokens.revocation import RevocationReason, RevocationTarget

T = TypeVar("T", bound=Enum)


def word(value: Enum) -> str:
    """Return the value of a choice in a form, such as `token_id`."""
    return value.name.lower()


TARGETS: Final[Mapping[str, RevocationTarget]] = MappingProxyType(
    {word(target): target for target in RevocationTarget}
)
REASONS: Final[Mapping[str, RevocationReason]] = MappingProxyType(
    {word(reason): reason for reason in RevocationReason}
)


def choice(choices: Mapping[str, T], field: str, text: str) -> T:
    """Return a choice. Raises `InvalidRequestError` for another text."""
    try:
        return choices[text]
    except KeyError:
        raise InvalidRequestError.of(field, f"is none of {', '.join(choices)}") from None
