"""What the claims of another issuer become here: the subject, its roles and its authentication."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from token_service.core.access.foreign_issuers import require_known
from token_service.suggestions import shown
from token_service.tokens.claims import MAX_NUMERIC_DATE, AuthContext

MAX_VALUES: Final = 256
"""Values of the mapping of one claim."""
MAX_PATH: Final = 8
"""Names in the path of a claim."""
MEMBERSHIPS: Final = ("roles", "groups", "entitlements")
"""Claims of an access token about the memberships of its subject (RFC 9068, section 2.2.3.1)."""
_PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class SubjectTemplate:
    """How the subject is made from claims, such as `acme:{sub}`.

    Different claims never give the same subject: the value of a claim that is not the last one can't have the
    character that follows it in the template.
    """

    parts: tuple[tuple[str, str], ...]
    """Pairs of a text and the claim that follows it."""
    end: str

    @classmethod
    def parse(cls, text: str) -> SubjectTemplate:
        """Return the template in a text. Raises `ValueError`."""
        pieces = _PLACEHOLDER.split(text)
        texts, claims = pieces[::2], pieces[1::2]
        if any(brace in piece for piece in texts for brace in "{}"):
            raise ValueError("subject: has a brace that is not part of a claim, such as {sub}")
        if not claims:
            raise ValueError("subject: has no claim, such as {sub}; all users would be the same subject")
        if not all(texts[1:-1]):
            raise ValueError("subject: has two claims without a text between them")
        if not text.isprintable():
            raise ValueError("subject: has a character that is not printable")
        return cls(tuple(zip(texts, claims, strict=False)), texts[-1])

    @property
    def claims(self) -> frozenset[str]:
        """The names of the claims."""
        return frozenset(claim for _, claim in self.parts)

    def of(self, claims: Mapping[str, Any]) -> str:
        """Return the subject that claims name. Raises `ValueError` with the problem."""
        if "email" in self.claims and claims.get("email_verified") is not True:
            raise ValueError("its email is not verified")
        following = [*(text for text, _ in self.parts[1:]), ""]
        subject = ""
        for (text, claim), after in zip(self.parts, following, strict=True):
            value = claims.get(claim)
            if not isinstance(value, str) or not value:
                raise ValueError(f"it lacks the claim {claim}, which names its subject")
            if after and after[0] in value:
                raise ValueError(f"its claim {claim} has {after[0]!r}, which ends this claim in the subject")
            subject += text + value
        return subject + self.end


@dataclass(frozen=True, slots=True)
class Membership:
    """The values of a claim of another issuer that become values of `roles`, `groups` or `entitlements`."""

    target: str
    claim: tuple[str, ...]
    """The path of the claim, as Keycloak has its roles in `realm_access` and there in `roles`."""
    values: tuple[tuple[str, str], ...]
    """Pairs of an accepted value and its name here."""

    @classmethod
    def parse(cls, target: str, settings: Any) -> Membership:
        """Return the mapping in a table of the policy file. Raises `ValueError`."""
        if not isinstance(settings, dict):
            raise ValueError(f"{target}: must be a table with claim and values")
        try:
            require_known(settings, ("claim", "values"))
            return cls(target, _path(settings.get("claim")), _values(settings.get("values")))
        except ValueError as error:
            raise ValueError(f"{target}: {error}") from None

    def of(self, claims: Mapping[str, Any]) -> list[str]:
        """Return the values here. Other values, and a claim of another type, count for nothing."""
        value: Any = claims
        for name in self.claim:
            value = value.get(name) if isinstance(value, Mapping) else None
        held = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        return list(dict.fromkeys(here for there, here in self.values if there in held))


def auth_context_of(claims: Mapping[str, Any]) -> AuthContext | None:
    """Return the authentication that claims describe; None: they describe none."""
    acr, amr, auth_time = claims.get("acr"), claims.get("amr"), claims.get("auth_time", -1)
    context = AuthContext(
        acr=acr if isinstance(acr, str) else "",
        amr=tuple(each for each in amr if isinstance(each, str)) if isinstance(amr, list) else (),
        auth_time=int(auth_time)
        if type(auth_time) in {int, float} and 0 <= auth_time <= MAX_NUMERIC_DATE
        else None,
    )
    return None if context == AuthContext() else context


def _path(value: Any) -> tuple[str, ...]:
    path = [value] if isinstance(value, str) else value
    if not isinstance(path, list) or not 0 < len(path) <= MAX_PATH:
        raise ValueError(f"claim: must be the name of a claim, or a list of at most {MAX_PATH} names")
    if not all(isinstance(name, str) and name for name in path):
        raise ValueError("claim: has a part that is no name")
    return tuple(path)


def _values(value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, list):
        found = tuple(zip(value, value, strict=True))
    else:
        found = tuple(value.items()) if isinstance(value, dict) else ()
    if not 0 < len(found) <= MAX_VALUES:
        raise ValueError(f"values: must be a list of 1 to {MAX_VALUES} texts, or a table of their new names")
    for there, here in found:
        if not isinstance(there, str) or not isinstance(here, str) or not here or not here.isprintable():
            raise ValueError(f"values: {shown(there)} = {shown(here)} is no printable text")
    return found
