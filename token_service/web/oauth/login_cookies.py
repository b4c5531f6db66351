"""The cookies of logins: one for each login of a browser, sealed, and gone when the login is complete."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from token_service.core.login.logins import LOGIN_TTL

MAX_COOKIE: Final = 3800
"""Characters of a login cookie. Browsers keep cookies of at least 4096 bytes (RFC 6265, section 6.1)."""
MAX_LOGINS: Final = 4
"""Logins of one browser at the same time."""
MAX_COOKIES: Final = 6 * 1024
"""Characters of all login cookies. With the longest answer of an upstream in the URL they fit into 16 KiB of headers."""


class LoginCookies:
    """Sets, reads and deletes the cookies of logins."""

    def __init__(self, issuer: str, kind: str = "login") -> None:
        """`kind`: the beginning of the names of the cookies."""
        self._is_secure = issuer.startswith("https://")
        self._kind = kind

    def read(self, request: Request, login_id: str) -> str:
        """Return the sealed login that a browser has begun; empty: there is none of this id."""
        return request.cookies.get(self._name(login_id), "") if login_id.isascii() else ""

    def add(self, request: Request, response: Response, login_id: str, sealed: str) -> None:
        """Set the cookie of a new login, and delete the oldest ones of a browser that has too many."""
        for name in self._surplus(request, len(sealed)):
            self._delete(response, name)
        response.set_cookie(
            self._name(login_id),
            sealed,
            max_age=int(LOGIN_TTL),
            path="/",
            secure=self._is_secure,
            httponly=True,
            samesite="lax",  # an upstream returns with a navigation from another site
        )

    def delete(self, response: Response, login_id: str) -> None:
        """Delete the cookie of a login."""
        self._delete(response, self._name(login_id))

    def _name(self, login_id: str) -> str:
        """Return the name of a login cookie. `__Host-` keeps other hosts of the domain from setting it (RFC 6265bis)."""
        return f"{'__Host-' if self._is_secure else ''}{self._kind}-{login_id[:22]}"

    def _surplus(self, request: Request, size: int) -> list[str]:
        """Return the names of the login cookies that must give way to a new one of `size` characters."""
        prefix = self._name("")
        kept, surplus = 1, []
        # The newest comes last (RFC 6265, section 5.4) and is the most likely to be in use.
        for name, value in reversed(request.cookies.items()):
            if not name.startswith(prefix):
                continue
            size += len(value)
            if kept < MAX_LOGINS and size <= MAX_COOKIES:
                kept += 1
            else:
                surplus.append(name)
        return surplus

    def _delete(self, response: Response, name: str) -> None:
        response.delete_cookie(name, path="/", secure=self._is_secure, httponly=True, samesite="lax")
