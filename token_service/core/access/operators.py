"""The operators of a policy file: people who may use the console, and what they may do there.

    [operators.on-call]
    subjects = ["alice"]
    groups = ["platform"]
    permissions = ["admin.read", "revoke"]

An entry is for each subject that it names, and for each member of one of its groups, roles or entitlements. A person
may do what the entries allow, as far as the scopes of the login allow it, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from token_service.core.access.authenticator import identity_of
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.foreign_issuers import require_known
from token_service.core.access.rights import Rights
from token_service.core.limits import MAX_SUBJECT
from token_service.core.policies.rights import ADMIN, Permission, parse_permissions
from token_service.errors import ConfigurationError, PermissionDeniedError
from token_service.suggestions import listed, shown
from token_service.tokens.claims import VerifiedClaims

MAX_OPERATORS: Final = 1000
"""Entries."""
MAX_OPERATOR_NAMES: Final = 1000
"""Subjects, groups, roles or entitlements of one entry."""
MAX_NAME: Final = 256
"""Characters of a group, a role or an entitlement."""
ALLOWED: Final = (
    Permission.ADMIN_READ,
    Permission.ADMIN_WRITE,
    Permission.REVOKE,
    Permission.REFRESH,
    Permission.VALIDATE,
)
"""The permissions that an operator can have. Issuing and exchanging tokens is the task of services."""
MEMBERSHIPS: Final = ("groups", "roles", "entitlements")
"""The claims that an entry can name values of (RFC 9068, section 2.2.3.1)."""


@dataclass(frozen=True, slots=True)
class OperatorEntry:
    """An entry: whom it is for, and the permissions."""

    subjects: frozenset[str]
    members: Mapping[str, frozenset[str]]
    """The values of each claim of `MEMBERSHIPS`."""
    permissions: frozenset[Permission]

    def is_for(self, claims: VerifiedClaims) -> bool:
        """Tell whether the entry is for the subject of a token."""
        if claims.subject in self.subjects:
            return True
        return any(
            not values.isdisjoint(_texts(claims.payload.get(claim))) for claim, values in self.members.items()
        )


def parse_operators(document: Mapping[str, Any]) -> dict[str, OperatorEntry]:
    """Return the entries by name. Raises `ConfigurationError`, which lists every mistake."""
    table = document.get("operators", {})
    if not isinstance(table, dict):
        raise ConfigurationError("operators: must be a table")
    problems: list[str] = []
    found: dict[str, OperatorEntry] = {}
    if len(table) > MAX_OPERATORS:
        problems.append(f"operators: more than {MAX_OPERATORS}")
    for name, settings in table.items():
        try:
            found[name] = _entry(settings)
        except ValueError as error:
            problems.append(f"operators.{name}: {error}")
    if problems:
        raise ConfigurationError(listed("the operators are invalid:", problems))
    return found


def operator_of(
    operators: Iterable[OperatorEntry], claims: VerifiedClaims, scopes: Collection[str]
) -> Caller:
    """Return the operator who logged in with an access token. `scopes`: those that the client of the console has now.

    Raises `PermissionDeniedError` if no entry is for the subject, and if the scopes of the token and of the client allow
    none of what the entries allow.
    """
    matching = [each for each in operators if each.is_for(claims)]
    if not matching:
        raise PermissionDeniedError(
            f"the subject {claims.subject!r} is no operator: no entry of [operators] in the policy file is for it"
        )
    permitted = frozenset[Permission]().union(*(each.permissions for each in matching))
    permissions = {each for each in permitted if each.value in claims.scopes and each.value in scopes}
    if not permissions:
        raise PermissionDeniedError(
            f"the login of {claims.subject!r} has none of the scopes that its entries in [operators] allow: "
            f"{', '.join(sorted(permitted))}; register the client of the console for them"
        )
    return login_caller(claims, Rights.of(*permissions))


def login_caller(claims: VerifiedClaims, rights: Rights) -> Caller:
    """Return the caller of a login, an operator or not."""
    return Caller(
        claims.subject,
        rights,
        Proof.CONSOLE_LOGIN,
        identity_of(f"operator:{claims.subject}"),
        expire_time=float(claims.expire_time),
        token=claims,
        kind="operator",
    )


def _entry(settings: Any) -> OperatorEntry:
    if not isinstance(settings, dict):
        raise ValueError("must be a table")
    require_known(settings, ("subjects", *MEMBERSHIPS, "permissions"))
    subjects = _names("subjects", settings.get("subjects", []), MAX_SUBJECT)
    members = {claim: _names(claim, settings[claim], MAX_NAME) for claim in MEMBERSHIPS if claim in settings}
    if not subjects and not any(members.values()):
        raise ValueError(f"must name one of subjects, {', '.join(MEMBERSHIPS)}")
    permissions = frozenset(right.permission for right in parse_permissions(settings.get("permissions")))
    if not permissions:
        raise ValueError("permissions: must name one")
    for permission in sorted(permissions):
        if permission not in ALLOWED:
            raise ValueError(
                f"permissions: {permission} is not for operators; allowed: {', '.join((*ALLOWED, ADMIN))}"
            )
    return OperatorEntry(subjects, members, permissions)


def _names(key: str, values: Any, most: int) -> frozenset[str]:
    if not isinstance(values, list) or len(values) > MAX_OPERATOR_NAMES:
        raise ValueError(f"{key}: must be a list of at most {MAX_OPERATOR_NAMES} texts")
    for value in values:
        if not isinstance(value, str) or not 1 <= len(value) <= most:
            raise ValueError(f"{key}: {shown(value)} is no text of 1 to {most} characters")
    return frozenset(values)


def _texts(value: Any) -> Iterable[str]:
    return (each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
