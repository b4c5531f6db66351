"""Subject identifiers (RFC 9493; SSF 1.0, section 3)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from token_service.core.limits import MAX_SUBJECT
from token_service.errors import InvalidRequestError
from token_service.tokens import base64url, strict_json

COMPLEX_MEMBERS: Final = ("user", "session", "application", "tenant")
"""The members of complex subjects that this service sends."""
_MAX_VALUE: Final = 1024


@dataclass(frozen=True, slots=True)
class EventSubject:
    """The subject of an event as one receiver knows it. Empty members are not named."""

    user: str = ""
    """The `sub` that the receiver knows."""
    session: str = ""
    application: str = ""
    """A client."""
    everything: bool = False
    """Whether the event is about all sessions of this service."""

    def identifier(self, issuer: str) -> dict[str, Any]:
        """Return the `sub_id`."""
        user = {"format": "iss_sub", "iss": issuer, "sub": self.user}
        if self.everything:
            return {"format": "complex", "tenant": {"format": "uri", "uri": issuer}}
        if self.application:
            return {"format": "complex", "application": _opaque(self.application)}
        if self.session:
            members = {"user": user} if self.user else {}
            return {"format": "complex", **members, "session": _opaque(self.session)}
        return user

    def fingerprints(self, stream_id: str) -> list[str]:
        """Return the fingerprints of the removed subjects that this one belongs to."""
        pairs = {(self.user, ""), ("", self.session), (self.user, self.session)} - {("", "")}
        return sorted(_fingerprint(stream_id, *pair) for pair in pairs)


def fingerprint_of(identifier: Any, stream_id: str, issuer: str) -> str:
    """Return the fingerprint of a subject that a receiver adds or removes.

    The stored fingerprint holds no personal data. Raises `InvalidRequestError` for a format that no event has.
    """
    if not isinstance(identifier, dict):
        raise _unusable("must be a subject identifier (RFC 9493)")
    if identifier.get("format") != "complex":
        identifier = {"user" if identifier.get("format") == "iss_sub" else "session": identifier}
    else:
        identifier = {name: value for name, value in identifier.items() if name != "format"}
    if not identifier or set(identifier) - {"user", "session"}:
        raise _unusable("must name a user, a session, or both")
    user = session = ""
    if "user" in identifier:
        values = _values(identifier["user"], "iss_sub", ("iss", "sub"))
        if values["iss"] != issuer:
            raise _unusable(f"must have the iss {issuer}")
        user = values["sub"]
    if "session" in identifier:
        session = _values(identifier["session"], "opaque", ("id",))["id"]
    return _fingerprint(stream_id, user, session)


def _values(identifier: Any, kind: str, names: tuple[str, ...]) -> Mapping[str, str]:
    if (
        not isinstance(identifier, dict)
        or set(identifier) != {"format", *names}
        or identifier["format"] != kind
        or not all(isinstance(identifier[name], str) for name in names)
    ):
        raise _unusable(
            "must have the format iss_sub (iss, sub), opaque (id of a session), or complex of these"
        )
    if any(not 0 < len(identifier[name]) <= _MAX_VALUE for name in names):
        raise _unusable(f"must have values of 1 to {_MAX_VALUE} characters")
    if len(identifier.get("sub", "")) > MAX_SUBJECT:
        raise _unusable(f"must have a sub of at most {MAX_SUBJECT} characters")
    return identifier


def _unusable(problem: str) -> InvalidRequestError:
    return InvalidRequestError.of("subject", problem)


def _opaque(value: str) -> dict[str, str]:
    return {"format": "opaque", "id": value}


def _fingerprint(stream_id: str, user: str, session: str) -> str:
    return base64url.encode(hashlib.sha256(strict_json.encode([stream_id, user, session])).digest())
