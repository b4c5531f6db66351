"""Limits on the values that a caller may send, the same for every edge.

Two limits are elsewhere: the size of a token in `tokens.verifier.MAX_TOKEN_BYTES`, which the client shares, and the
size of a message in `rpc.server.grpc_limits`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeVar

from token_service.errors import FieldViolation, InvalidRequestError

MAX_SUBJECT: Final = 256
MAX_CLIENT_ID: Final = 256
MAX_DEVICE_ID: Final = 256
MAX_AUDIENCES: Final = 16
MAX_AUDIENCE: Final = 512
MAX_SCOPES: Final = 64
MAX_SCOPE: Final = 128
MAX_ACR: Final = 256
MAX_AMRS: Final = 16
MAX_AMR: Final = 64
MAX_NONCE: Final = 256
MAX_REQUEST_ID: Final = 128
MAX_IP_ADDRESS: Final = 64
MAX_USER_AGENT: Final = 512
MAX_COMMENT: Final = 512
MAX_TOKEN_ID: Final = 256
MAX_TOKEN_NAME: Final = 256
"""Bytes of the name of a personal access token."""
MAX_KEY_ID: Final = 256
MAX_SUBSCRIBER_ID: Final = 128
MAX_CLIENT_VERSION: Final = 64
MAX_BATCH: Final = 256
MAX_PAGE: Final = 200
DEFAULT_PAGE: Final = 50
MAX_UPDATE_PATHS: Final = 16
"""Paths of a field mask."""
MAX_TOKEN_TYPES: Final = 16
MAX_CUSTOM_CLAIMS: Final = 64
MAX_ENCODED_CUSTOM_CLAIMS: Final = 128 * 1024
"""Bytes of the Struct. No policy allows more than 8 KiB of JSON, and a number of one digit takes 13 bytes of Struct."""
MAX_CUSTOM_CLAIM_DEPTH: Final = 8
MAX_ACTORS: Final = 4
"""Actors in the `act` claim of a token, and transaction tokens that one replaces another one."""
MAX_REQUEST_CONTEXT: Final = 4096
"""Bytes of JSON of `rctx` and of `tctx` of a transaction token."""
MAX_REQUEST_CONTEXT_DEPTH: Final = 8
MAX_WAIT: Final = 60.0
DEFAULT_WAIT: Final = 5.0
THUMBPRINT: Final = 43
MAX_FIELDS: Final = 20_000
"""Total fields and list items of a request. A full batch has 17,000, the largest custom claims have 13,000."""
MAX_VIOLATIONS: Final = 8
"""Violations reported to a caller at once. More would not fit into the trailers of a call."""

_Position = TypeVar("_Position")

# RFC 6749, section 3.3: printable ASCII without space, quote and backslash.
_SCOPE_CHARACTERS: Final = frozenset(chr(c) for c in range(0x21, 0x7F)) - {'"', "\\"}


def is_thumbprint(text: str) -> bool:
    """Tell whether a text has the form of a SHA-256 thumbprint in base64url without padding (RFC 7638; RFC 7636)."""
    return len(text) == THUMBPRINT and text.isascii() and text.replace("-", "a").replace("_", "a").isalnum()


class Checks:
    """A collection of all violations in a request, so that one error reports them all."""

    def __init__(self) -> None:
        self._violations: list[FieldViolation] = []

    @property
    def full(self) -> bool:
        """Whether the limit of violations is reached: `add` ignores further ones, so checks can stop."""
        return len(self._violations) >= MAX_VIOLATIONS

    def add(self, field: str, description: str) -> None:
        """Note a violation, unless the limit is reached."""
        if not self.full:
            self._violations.append(FieldViolation(field, description))

    def text(self, field: str, value: str, limit: int, *, required: bool = False) -> None:
        """Check that a field is printable text of at most `limit` bytes of UTF-8."""
        if value:
            if len(value) <= limit and value.isascii() and value.isprintable():
                return  # nearly all values
        elif not required:
            return
        self._explain(field, value, limit, required=required)

    def _explain(self, field: str, value: str, limit: int, *, required: bool) -> None:
        if required and not value:
            self.add(field, "is required")
        elif len(value.encode("utf-8", "surrogatepass")) > limit:
            self.add(field, f"is longer than {limit} bytes")
        elif not value.isprintable():
            self.add(field, "has characters that are not printable")

    def texts(self, field: str, values: Sequence[str], count: int, limit: int) -> None:
        """Check that a field has at most `count` different non-empty texts of at most `limit` bytes."""
        if not values:
            return
        if len(values) > count:
            self.add(field, f"has more than {count} items")
            return
        # Only short texts may become the key of a cache.
        if max(map(len, values)) <= limit and _are_plain(tuple(values), limit):
            return
        for number, value in enumerate(values):
            self.text(f"{field}[{number}]", value, limit, required=True)
        if len(set(values)) != len(values):
            self.add(field, "has an item twice")

    def page(
        self, size: int, token: str, parse: Callable[[str], _Position], *, most: int = MAX_PAGE
    ) -> _Position | None:
        """Check the size and the token of a page; return the position in the token, or None without a token.

        `most` is the largest size. `parse` reads the position. It raises `ValueError` for any other text.
        """
        if not 0 <= size <= most:
            self.add("page_size", f"is not from 0 to {most}")
        if not token:
            return None
        try:
            return parse(token)
        except ValueError:
            self.add("page_token", "was not issued by the token service; list again from the first page")
            return None

    def scopes(self, field: str, values: Sequence[str]) -> None:
        """Check that a field has scope tokens (RFC 6749, section 3.3)."""
        if not values:
            return
        if len(values) <= MAX_SCOPES and max(map(len, values)) <= MAX_SCOPE and _are_scopes(tuple(values)):
            return
        self.texts(field, values, MAX_SCOPES, MAX_SCOPE)
        for number, value in enumerate(values[:MAX_SCOPES]):
            if len(value) <= MAX_SCOPE and not _SCOPE_CHARACTERS.issuperset(value):
                self.add(f"{field}[{number}]", "has characters that a scope may not have")

    def done(self) -> None:
        """Raise `InvalidRequestError` if a violation was noted."""
        if self._violations:
            raise InvalidRequestError(self._violations)


@lru_cache(256)  # the same few lists in nearly every request
def _are_plain(values: tuple[str, ...], limit: int) -> bool:
    """Tell whether texts of at most `limit` characters obviously keep the rules."""
    return len(set(values)) == len(values) and all(
        value and value.isascii() and value.isprintable() for value in values
    )


@lru_cache(256)
def _are_scopes(values: tuple[str, ...]) -> bool:
    return _are_plain(values, MAX_SCOPE) and all(map(_SCOPE_CHARACTERS.issuperset, values))
