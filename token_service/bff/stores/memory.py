"""Sessions in the memory of one process, for tests and development: a restart ends all sessions."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from token_service.bff.store import Logout, StoredSession

_PURGE_EVERY: Final = 60.0


class MemorySessionStore:
    """A `SessionStore` for one process. No method waits, so each is atomic in its event loop."""

    def __init__(self) -> None:
        self._sessions: dict[str, StoredSession] = {}
        self._leases: dict[str, tuple[str, float]] = {}
        self._used: dict[str, float] = {}
        self._purged = 0.0

    async def create(self, session: StoredSession, now: float, keep: int | None) -> None:
        """See `SessionStore.create`."""
        self._purge(now)
        self._sessions[session.key] = session
        if keep is not None:
            own = [each for each in self._sessions.values() if each.subject == session.subject]
            live = [each for each in own if _is_live(each, now)]
            kept = sorted(live, key=lambda each: (each.expire_time, each.key), reverse=True)[:keep]
            for each in own:
                if each not in kept:
                    self._drop(each.key)

    async def load(self, key: str, now: float) -> StoredSession | None:
        """See `SessionStore.load`."""
        return self._live(key, now)

    async def touch(self, key: str, idle_expire_time: float) -> None:
        """See `SessionStore.touch`."""
        session = self._sessions.get(key)
        if session is not None and session.idle_expire_time < idle_expire_time:
            self._sessions[key] = replace(session, idle_expire_time=idle_expire_time)

    async def lease(self, key: str, holder: str, now: float, until: float) -> StoredSession | None:
        """See `SessionStore.lease`."""
        session = self._live(key, now)
        current, end = self._leases.get(key, (holder, 0.0))
        if session is None or (current != holder and end > now):
            return None
        self._leases[key] = (holder, until)
        return session

    async def release(self, key: str, holder: str) -> None:
        """See `SessionStore.release`."""
        if self._leases.get(key, ("", 0.0))[0] == holder:
            del self._leases[key]

    async def replace(self, key: str, version: int, payload: str) -> bool:
        """See `SessionStore.replace`."""
        session = self._sessions.get(key)
        if session is None or session.version != version:
            return False
        self._sessions[key] = replace(session, payload=payload, version=version + 1)
        return True

    async def delete(self, key: str, version: int | None = None) -> bool:
        """See `SessionStore.delete`."""
        session = self._sessions.get(key)
        if session is None or version not in {None, session.version}:
            return False
        self._drop(key)
        return True

    async def log_out(self, logout: Logout, now: float) -> int | None:
        """See `SessionStore.log_out`."""
        if not self._remember(logout.token_id, logout.expire_time, now):
            return None
        meant = [
            each.key
            for each in self._sessions.values()
            if logout.subject in {"", each.subject} and logout.sid in {"", each.sid}
        ]
        for key in meant:
            self._drop(key)
        return len(meant)

    async def use_once(self, name: str, expire_time: float, now: float) -> bool:
        """See `SessionStore.use_once`."""
        self._purge(now)
        return self._remember(name, expire_time, now)

    def _live(self, key: str, now: float) -> StoredSession | None:
        session = self._sessions.get(key)
        return session if session is not None and _is_live(session, now) else None

    def _remember(self, name: str, expire_time: float, now: float) -> bool:
        if self._used.get(name, 0.0) > now:
            return False
        self._used[name] = expire_time
        return True

    def _drop(self, key: str) -> None:
        self._sessions.pop(key, None)
        self._leases.pop(key, None)

    def _purge(self, now: float) -> None:
        if now < self._purged + _PURGE_EVERY:
            return
        self._purged = now
        for key in [key for key, each in self._sessions.items() if not _is_live(each, now)]:
            self._drop(key)
        self._used = {name: end for name, end in self._used.items() if end > now}


def _is_live(session: StoredSession, now: float) -> bool:
    return now < session.expire_time and now < session.idle_expire_time
