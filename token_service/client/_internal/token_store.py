"""Tokens of a caller, and stores that keep them across restarts."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from token_service.errors import InvalidTokenError, StoreUnavailableError
from token_service.tokens.base64url import decode
from token_service.tokens.strict_json import decode_object
from token_service.v1.token_service_pb2 import IssueTokenResponse, RefreshTokenResponse

logger = logging.getLogger(__name__)

_SAVE_TIMEOUT: Final = 30.0
"""Seconds to wait for another process that renews its tokens."""
_CLOCK_STEP = 5.0
"""Seconds by which the wall clock may be set back before ages measured by it are unusable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """An access token and the refresh token for its successor.

    Times are seconds since the Unix epoch.
    """

    access_token: str = field(repr=False)
    access_expire_time: float
    """Expiry by the clock of the token service."""
    refresh_token: str = field(repr=False)
    token_type: str = "Bearer"
    scopes: tuple[str, ...] = ()
    receive_time: float | None = None
    """Receipt by the clock of this machine. With it, the age of stored tokens does not depend on the clock of
    the service.
    """

    @classmethod
    def of(cls, response: IssueTokenResponse | RefreshTokenResponse, now: float | None = None) -> Tokens:
        """Build tokens from a response received at `now` (default: the current time)."""
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
    """Return the seconds from issue to expiry by the service's clock, or None if `iat` can't be read."""
    try:
        # The claim is not verified: the token comes from the service, and only the timing of renewals depends on it.
        issued = decode_object(decode(tokens.access_token.split(".")[1].encode("ascii"))).get("iat")
    except (ValueError, IndexError, InvalidTokenError):
        return None
    return tokens.access_expire_time - issued if isinstance(issued, int | float) else None


def remaining(tokens: Tokens, now: float) -> float:
    """Return the seconds until expiry of an access token that was stored for an unknown time.

    Returns 0 if the wall clock was set back in the meantime: the age is then unknown.
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
    """Store that keeps tokens across restarts. Calls may block and never overlap.

    Processes may share a store. Each process reads the store before a renewal, adopts tokens that another process
    stored, and does not overwrite tokens that it has not read. A reader must never see a partial save: write a new
    file and rename it.
    """

    def load(self) -> Tokens | None:
        """Return the last saved tokens, or None. Raises `OSError` or `ValueError` if they can't be read."""
        ...

    def save(self, tokens: Tokens) -> None:
        """Replace the stored tokens. Returns once they are durable; raises `OSError` on failure."""
        ...


@runtime_checkable
class LockingTokenStore(TokenStore, Protocol):
    """Store whose processes take turns.

    A renewal holds the lock from the read of the refresh token to the save of its successor. Without a lock a process
    that is stopped in between may later send a refresh token that another process has exchanged, which ends the session.
    """

    def lock(self, timeout: float) -> AbstractContextManager[None]:
        """Return a context that excludes all other processes. Threads of this process may enter it together.

        Entering blocks, and raises `TimeoutError` after `timeout` seconds. Leaving does not block, and any thread may
        leave it.
        """
        ...


class MemoryTokenStore:
    """Store in the memory of the process."""

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens

    def load(self) -> Tokens | None:
        """Return the last saved tokens, or None."""
        return self._tokens

    def save(self, tokens: Tokens) -> None:
        """Replace the stored tokens."""
        self._tokens = tokens


class SharedStore:
    """Wrapper of a `TokenStore` that processes share. Blocks; any thread may call it."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._lock = threading.Lock()

    @contextmanager
    def exclusive(self, timeout: float) -> Iterator[None]:
        """Exclude other processes, if the store can. Raises `StoreUnavailableError` after `timeout` seconds."""
        with ExitStack() as stack:
            if isinstance(self._store, LockingTokenStore):
                try:
                    stack.enter_context(self._store.lock(timeout))
                except OSError as error:
                    raise StoreUnavailableError(f"the token store can't be locked: {error}") from error
            yield

    def load(self) -> Tokens | None:
        """Return the last saved tokens, or None. Raises the errors of the store."""
        with self._lock:
            return self._store.load()

    def reload(self) -> Tokens | None:
        """Return the last saved tokens; log an error and return None if they can't be read."""
        with self._lock:
            return self._reload()

    def save(self, tokens: Tokens, instead_of: frozenset[str]) -> Tokens | bool:
        """Replace stored tokens that have one of these refresh tokens.

        Returns whether the save succeeded, or the tokens of another process, which stay.
        """
        with self._lock, self._saving() as locked:
            stored = self._reload()
            if stored is not None and stored.refresh_token not in instead_of:
                return stored
            return locked and self._save(tokens)

    def overwrite(self, tokens: Tokens) -> tuple[bool, Tokens | None]:
        """Replace the stored tokens; return whether the save succeeded, and the previous tokens."""
        with self._lock, self._saving() as locked:
            stored = self._reload()
            return locked and self._save(tokens), stored

    @contextmanager
    def _saving(self) -> Iterator[bool]:
        """Exclude other processes from the read and the save; yield whether that succeeded."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self.exclusive(_SAVE_TIMEOUT))
            except StoreUnavailableError as error:
                logger.error("tokens could not be stored; the next save stores them: %s", error)  # noqa: TRY400  # no trace needed
                yield False
            else:
                yield True

    def _reload(self) -> Tokens | None:
        try:
            return self._store.load()
        except (OSError, ValueError) as error:
            # The tokens in memory are usable. The next read finds tokens that another process may have stored.
            logger.error("the stored tokens could not be read; the next renewal reads again: %s", error)  # noqa: TRY400  # no trace needed
            return None

    def _save(self, tokens: Tokens) -> bool:
        try:
            self._store.save(tokens)
        except OSError as error:
            # The tokens in memory are usable. The next save, or the end of the source, stores them.
            logger.error("renewed tokens could not be stored; the next save stores them: %s", error)  # noqa: TRY400  # no trace needed
            return False
        return True


@asynccontextmanager
async def exclusively(store: SharedStore, timeout: float) -> AsyncIterator[None]:
    """Enter `SharedStore.exclusive` without blocking the event loop."""
    context = store.exclusive(timeout)
    entering = asyncio.ensure_future(asyncio.to_thread(context.__enter__))
    try:
        await asyncio.shield(entering)
    except asyncio.CancelledError:
        # The thread can't be cancelled. It must not keep a lock that no task knows of.
        entering.add_done_callback(lambda done: _leave(context, done))
        raise
    try:
        yield
    finally:
        context.__exit__(None, None, None)


def _leave(context: AbstractContextManager[None], entered: asyncio.Future[None]) -> None:
    if not entered.cancelled() and entered.exception() is None:
        context.__exit__(None, None, None)
