"""Rights: a permission and the bounds within which a caller has it.

Policy files and the registry of clients hold them in the same shape:

    permission = "issue"
    clients = ["web", "mobile-*"]
    audiences = ["https://orders.example.org"]
    scopes = ["orders:*"]
    token_types = ["access", "refresh"]
    may = ["auth_context"]
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec

from token_service.errors import ConfigurationError
from token_service.suggestions import did_you_mean, listed, shown
from token_service.tokens.claims import TokenKind

MAX_RIGHTS: Final = 100
"""Rights of one caller."""
MAX_PATTERNS: Final = 1000
"""Patterns in one bound."""
MAX_PATTERN: Final = 512
"""Characters of one pattern."""


class Permission(StrEnum):
    """A permission of a caller. `access.gate.NEEDED` says which one each use case needs."""

    ISSUE = "issue"
    VALIDATE = "validate"
    REFRESH = "refresh"
    EXCHANGE = "exchange"
    """Exchange tokens of other clients at the token endpoint (RFC 8693)."""
    REVOKE = "revoke"
    SUBSCRIBE = "subscribe"
    RECEIVE_EVENTS = "receive_events"
    """Learn of the sessions of other clients in event streams (Shared Signals Framework)."""
    ADMIN_READ = "admin.read"
    ADMIN_WRITE = "admin.write"


MUST_BE_BOUNDED: Final = frozenset({Permission.ISSUE, Permission.EXCHANGE, Permission.RECEIVE_EVENTS})
"""Permissions whose right needs a bound, or says that it has none: without bounds it reaches the users of any client."""


class May(StrEnum):
    """A part of a request for tokens that a right must allow by name."""

    AUTH_CONTEXT = "auth_context"
    """State how the subject was authenticated (`auth_time`, `acr`, `amr`)."""
    CUSTOM_CLAIMS = "custom_claims"
    OTHER_SUBJECTS = "other_subjects"
    """Name a subject other than the client itself."""
    IMPERSONATE = "impersonate"
    """Exchange a token for one that does not name the client as its actor (RFC 8693, section 1.1)."""


class Right(msgspec.Struct, frozen=True, kw_only=True):
    """One permission within bounds. An empty bound allows every value, except `may`, which then allows nothing.

    A pattern is a name, or the beginning of names followed by `*`.
    """

    permission: Permission
    clients: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    token_types: tuple[str, ...] = ()
    may: tuple[May, ...] = ()
    unbounded: bool = False
    """No bound applies, `may` included. Written down, because it is dangerous for `MUST_BE_BOUNDED`."""


ADMIN: Final = "admin"
"""Stands for `admin.read` and `admin.write`."""

_TOKEN_TYPES: Final = tuple(kind.name.lower() for kind in TokenKind)
_BOUNDS: Final[Mapping[Permission, tuple[str, ...]]] = MappingProxyType(
    {
        Permission.ISSUE: ("clients", "audiences", "scopes", "token_types", "may"),
        Permission.REFRESH: ("clients",),
        Permission.EXCHANGE: ("clients", "audiences", "scopes", "token_types", "may"),
        Permission.REVOKE: ("clients",),
        Permission.RECEIVE_EVENTS: ("clients",),
    }
)
"""The bounds that each permission may have. Others are enforced nowhere, so they are refused."""
_MAY: Final[Mapping[Permission, tuple[May, ...]]] = MappingProxyType(
    {
        Permission.ISSUE: (May.AUTH_CONTEXT, May.CUSTOM_CLAIMS, May.OTHER_SUBJECTS),
        Permission.EXCHANGE: (May.IMPERSONATE,),
    }
)
_PATTERN: Final = re.compile(r"[\x21-\x29\x2b-\x7e]+\*?", re.ASCII)
"""Printable ASCII without spaces; a `*` only at the end, and not alone."""


def parse_permissions(names: Any) -> tuple[Right, ...]:
    """Return unbounded rights for a list of names, e.g. `["issue", "admin"]`. Raises `ValueError`."""
    if not isinstance(names, list):
        raise ValueError(f"permissions: must be a list of {_allowed()}")
    found: dict[Permission, None] = {}
    for name in names:
        found.update(dict.fromkeys(_permissions(name)))
    return tuple(Right(permission=permission, unbounded=True) for permission in found)


def parse_rights(tables: Any) -> tuple[Right, ...]:
    """Return the rights in a list of tables. Raises `ConfigurationError`, which lists every mistake."""
    if not isinstance(tables, list):
        raise ConfigurationError("rights: must be a list of tables")
    if len(tables) > MAX_RIGHTS:
        raise ConfigurationError(f"rights: more than {MAX_RIGHTS}")
    rights: list[Right] = []
    problems: list[str] = []
    for number, table in enumerate(tables, 1):
        try:
            rights += _rights(table)
        except ValueError as error:
            problems.append(f"rights, number {number}: {error}")
    if problems:
        raise ConfigurationError(listed("the rights are invalid:", problems))
    return tuple(rights)


def matches(patterns: Sequence[str], value: str) -> bool:
    """Tell whether one of the patterns matches a value. No pattern matches everything."""
    if not patterns or value in patterns:
        return True
    return any(pattern[-1] == "*" and value.startswith(pattern[:-1]) for pattern in patterns)


def _rights(table: Any) -> list[Right]:
    if not isinstance(table, dict):
        raise ValueError("must be a table")
    permissions = _permissions(table.get("permission"))
    allowed = _BOUNDS.get(permissions[0], ())
    known = ("permission", "unbounded", *allowed)
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise ValueError(
                f"{name}: no bound of {table['permission']}; allowed: {', '.join(known)}{did_you_mean(name, known)}"
            )
        if name == "unbounded":
            if not isinstance(value, bool):
                raise ValueError(f"unbounded: {shown(value)} is neither true nor false")
            values[name] = value
        elif name != "permission":
            values[name] = _patterns(name, value)
    if values.get("unbounded") and len(values) > 1:
        raise ValueError("unbounded: a right is either unbounded or has bounds")
    permission = permissions[0]
    if permission in MUST_BE_BOUNDED and not values.get("unbounded") and not set(values) - {"may"}:
        raise ValueError(f"the right {permission} needs a bound ({_shown(permission)}), or unbounded = true")
    for item in values.get("may", ()):
        if item not in _MAY[permission]:
            raise ValueError(
                f"may: {item} is nothing that {permission} can do; allowed: {', '.join(_MAY[permission])}"
            )
    return [Right(permission=permission, **values) for permission in permissions]


def _shown(permission: Permission) -> str:
    """Return the bounds of a permission, in words."""
    *others, last = (name for name in _BOUNDS[permission] if name != "may")
    return f"{', '.join(others)} or {last}" if others else last


def _patterns(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name}: must be a list of texts")
    if not value:
        raise ValueError(f"{name}: is empty, which would allow nothing; leave it out or name something")
    if len(value) > MAX_PATTERNS:
        raise ValueError(f"{name}: more than {MAX_PATTERNS} patterns")
    closed = {"token_types": _TOKEN_TYPES, "may": tuple(May)}.get(name)
    for item in value:
        if closed is not None and item not in closed:
            raise ValueError(
                f"{name}: {shown(item)} is none of {', '.join(closed)}{did_you_mean(item, closed)}"
            )
        if len(item) > MAX_PATTERN or _PATTERN.fullmatch(item) is None:
            raise ValueError(
                f"{name}: {shown(item)} is no pattern: a name of printable ASCII without spaces, "
                f'or the beginning of names and then * ("orders:*"), of at most {MAX_PATTERN} characters'
            )
    if name == "may":
        return tuple(map(May, dict.fromkeys(value)))
    return tuple(dict.fromkeys(value))


def _permissions(name: Any) -> tuple[Permission, ...]:
    if name == ADMIN:
        return Permission.ADMIN_READ, Permission.ADMIN_WRITE
    if not isinstance(name, str) or name not in tuple(Permission):
        near = did_you_mean(name, (*Permission, ADMIN)) if isinstance(name, str) else ""
        raise ValueError(f"{shown(name)} is no permission; allowed: {_allowed()}{near}")
    return (Permission(name),)


def _allowed() -> str:
    return ", ".join((*Permission, ADMIN))
