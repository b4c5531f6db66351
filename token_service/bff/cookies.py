"""The cookies of the backend-for-frontend: read, set and deleted.

All have the prefix `__Host-` (RFC 6265bis, section 4.1.3.2): a browser takes them only from this host itself, over TLS
and for all paths, so neither a subdomain nor a network attacker can set one.
"""

from __future__ import annotations

import re
from typing import Final

from token_service.bff.config import RequestRules, SameSite
from token_service.bff.exchange import BadRequestError, Scope

MAX_COOKIE_HEADER: Final = 16 * 1024
"""Bytes of the Cookie header of a request."""
MAX_COOKIE: Final = 3800
"""Characters of a cookie's value. Browsers keep cookies of at least 4096 bytes with their name (RFC 6265, section 6.1)."""
MAX_LOGINS: Final = 4
"""Logins of one browser at the same time. Each has a cookie, which every request carries until it ends."""
_SESSION_ID: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_LOGIN: Final = re.compile(r"[A-Za-z0-9_-]{22}")


class Cookies:
    """The names and attributes of the cookies of one application."""

    def __init__(self, rules: RequestRules) -> None:
        self._session = f"__Host-{rules.cookie}"
        self._login_prefix = f"{self._session}-login-"
        self._same_site = rules.same_site

    def session_id(self, scope: Scope) -> str | None:
        """Return the session id; None without one, with a malformed one, and with two.

        Raises `BadRequestError` if the Cookie header is too long.
        """
        found = [value for name, value in pairs(scope) if name == self._session]
        return found[0] if len(found) == 1 and _SESSION_ID.fullmatch(found[0]) else None

    def login(self, scope: Scope, state: str) -> str:
        """Return the sealed login state for a `state`; empty if this browser has none."""
        if not _LOGIN.match(state):
            return ""
        name = self._login_name(state)
        found = [value for each, value in pairs(scope) if each == name]
        return found[0] if len(found) == 1 and len(found[0]) <= MAX_COOKIE else ""

    def login_names(self, scope: Scope) -> list[tuple[str, str]]:
        """Return name and value of every login cookie."""
        start = self._login_prefix
        return [
            (name, value)
            for name, value in pairs(scope)
            if name.startswith(start) and _LOGIN.fullmatch(name.removeprefix(start))
        ]

    def set_session(self, session_id: str) -> str:
        """Return the header that sets the session cookie. The browser keeps it until it is closed."""
        return f"{self._session}={session_id}; Path=/; Secure; HttpOnly; SameSite={self._same_site}"

    def delete_session(self) -> str:
        """Return the header that deletes the session cookie."""
        return f"{self._session}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite={self._same_site}"

    def set_login(self, state: str, sealed: str, seconds: float) -> str:
        """Return the header that sets a login cookie.

        It is always `Lax`, because the provider leads the browser back with a navigation from another site.
        """
        attributes = f"Path=/; Max-Age={int(seconds)}; Secure; HttpOnly; SameSite={SameSite.LAX}"
        return f"{self._login_name(state)}={sealed}; {attributes}"

    def delete_login(self, state: str) -> str:
        """Return the header that deletes the login cookie of a `state`."""
        return self.delete(self._login_name(state))

    def delete(self, name: str) -> str:
        """Return the header that deletes a login cookie of this name, which came in a request."""
        return f"{name}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite={SameSite.LAX}"

    def hide(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Return the headers without these cookies, for the application, which may log or forward headers."""
        own = [name for name, _ in pairs(scope) if self._is_own(name)]
        if not own:
            return list(scope["headers"])
        others = "; ".join(f"{name}={value}" for name, value in pairs(scope) if not self._is_own(name))
        kept = [(key, value) for key, value in scope["headers"] if key != b"cookie"]
        return [*kept, (b"cookie", others.encode("latin-1"))] if others else kept

    def _is_own(self, name: str) -> bool:
        return name == self._session or name.startswith(self._login_prefix)

    def _login_name(self, state: str) -> str:
        return f"{self._login_prefix}{state[:22]}"


def pairs(scope: Scope) -> list[tuple[str, str]]:
    """Return name and value of all cookies, in order. Raises `BadRequestError` if there are too many bytes."""
    lines = [value for key, value in scope["headers"] if key == b"cookie"]  # HTTP/2 may split the header
    if sum(map(len, lines)) > MAX_COOKIE_HEADER:
        raise BadRequestError(f"the Cookie header is longer than {MAX_COOKIE_HEADER} bytes", 431)
    texts = [part.strip() for line in lines for part in line.decode("latin-1").split(";")]
    return [(name, value) for name, equals, value in (text.partition("=") for text in texts) if equals]
