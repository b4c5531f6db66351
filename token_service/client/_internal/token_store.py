"""The tokens of a caller and where they survive its process."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Protocol

from token_service.errors import InvalidTokenError
from token_service.tokens.base64url import decode
from token_service.tokens.strict_json import decode_object
from token_service.v1.token_service_pb2 import IssueTokenResponse, RefreshTokenResponse

logger = logging.getLogger(__name__)

_CLOCK_STEP = 5.0
"""Seconds a wall clock may be set back before it is no measure of an age any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """An access token and the refresh token that gets the next one.

    Times are seconds since the Unix epoch.
    """

    access_token: str = field(repr=False)
    access_expire_time: float
    """By the clock of the service."""
    refresh_token: str = field(repr=False)
    token_type: str = "Bearer"
    scopes: tuple[str, ...] = ()
    receive_time: float | None = None
    """By the clock of this machine. A store that keeps it makes the age of the tokens known after a restart,
    whatever the difference to the clock of the service is.
    """

    @classmethod
    def of(cls, response: IssueTokenResponse | RefreshTokenResponse, now: float | None = None) -> Tokens:
        """The tokens of an answer that was received at `now` (default: this moment)."""
        expiry = response.access_token_expire_time
        return cls(
            access_token=response.access_token,
            access_expire_time=expiry.seconds + expiry.nanos / 1e9,
            refresh_token=response.refresh_token,
            token_type=response.token_type or "Bearer",
            scopes=tuple(response.scopes),
            receive_time=time.time() if now is None else now,
        )


def lifetime(tokens: Tokens) -> float | None:
    """Seconds from issue to expiry, both by the clock of the service; None if `iat` can't be read."""
    try:
        # Not verified: the caller got the token from the service and only counts by it.
        issued = decode_object(decode(tokens.access_token.split(".")[1].encode("ascii"))).get("iat")
    except (ValueError, IndexError, InvalidTokenError):
        return None
    return tokens.access_expire_time - issued if isinstance(issued, int | float) else None


def remaining(tokens: Tokens, now: float) -> float:
    """Seconds the access token has left, for tokens that were kept for an unknown time.

    0 if the wall clock was set back meanwhile: then the age can't be known.
    """
    life = lifetime(tokens)
    if life is None:
        return tokens.access_expire_time - now
    if tokens.receive_time is None:
        left = tokens.access_expire_time - now
    else:
        left = life - (now - tokens.receive_time)
    return min(left, life) if left <= life + _CLOCK_STEP else 0.0


class TokenStore(Protocol):
    """Where tokens survive the process. May block, and is never called by two threads at once.

    Processes may share a store. Each reads it before it renews, goes on with what another has stored, and
    does not replace what it has not seen. A reader must never see half of what is saved: write a new file and
    rename it.
    """

    def load(self) -> Tokens | None:
        """What was saved last; None if there is nothing. Raises `OSError` or `ValueError` if it can't be read."""
        ...

    def save(self, tokens: Tokens) -> None:
        """Keep these instead. Returns once they are safe; raises `OSError` if they are not."""
        ...


class MemoryTokenStore:
    """Keeps tokens as long as the process lives."""

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens

    def load(self) -> Tokens | None:
        """What was saved last."""
        return self._tokens

    def save(self, tokens: Tokens) -> None:
        """Keep these instead."""
        self._tokens = tokens


class SharedStore:
    """A `TokenStore` that other processes may use as well. Blocks; for any thread."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._lock = threading.Lock()

    def load(self) -> Tokens | None:
        """What was saved last. Raises what the store raises."""
        with self._lock:
            return self._store.load()

    def reload(self) -> Tokens | None:
        """What was saved last; None, and a line in the log, if it can't be read."""
        with self._lock:
            return self._reload()

    def save(self, tokens: Tokens, instead_of: frozenset[str]) -> Tokens | bool:
        """Keep these instead of tokens with one of these refresh tokens.

        Returns whether they are safe, or the tokens of another process that were there and stay.
        """
        with self._lock:
            stored = self._reload()
            if stored is not None and stored.refresh_token not in instead_of:
                return stored
            return self._save(tokens)

    def overwrite(self, tokens: Tokens) -> tuple[bool, Tokens | None]:
        """Keep these, whatever is there; returns whether they are safe, and what was there."""
        with self._lock:
            stored = self._reload()
            return self._save(tokens), stored

    def _reload(self) -> Tokens | None:
        try:
            return self._store.load()
        except (OSError, ValueError) as error:
            # The tokens in memory are good; what another process may have stored is seen the next time.
            logger.error("stored tokens could not be read again: %s", error)  # noqa: TRY400  # no trace needed
            return None

    def _save(self, tokens: Tokens) -> bool:
        try:
            self._store.save(tokens)
        except OSError as error:
            # The tokens in memory are good; they are saved with the next ones, or at the end.
            logger.error("renewed tokens could not be stored: %s", error)  # noqa: TRY400  # no trace needed
            return False
        return True
