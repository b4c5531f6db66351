"""Verification of security event tokens (RFC 8417), as the Shared Signals Framework 1.0 profiles them (section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.assertions import (
    ASSERTION_LEEWAY,
    UnverifiedAssertion,
    audiences,
    date_of,
    verify_signature,
)
from token_service.tokens.claims import malformed
from token_service.tokens.key_set import KeySet

SET_TYPE: Final = "secevent+jwt"
"""`typ` of every security event token (RFC 8417, section 2.3)."""
MAX_SET_ID: Final = 256
"""Characters of `jti` and of `txn`."""
MAX_EVENTS: Final = 8
"""Events in one token. The framework recommends one."""
MAX_EVENT_TYPE: Final = 512
"""Characters of the URI of an event type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityEventToken:
    """The verified claims of a security event token. Times are NumericDates."""

    token_id: str
    issue_time: float
    event_time: float | None
    """`toe`, the time of the events; None: the token does not name it."""
    transaction_id: str
    """`txn`; empty: none."""
    subject: Mapping[str, Any]
    """`sub_id`, a subject identifier (RFC 9493)."""
    events: Mapping[str, Mapping[str, Any]]
    """The claims of each event by the URI of its type."""

    def time_of(self, event: Mapping[str, Any]) -> float:
        """Return the time of an event: its `event_timestamp`, else `toe`, else `iat`, and never later than `iat`.

        Raises `InvalidTokenError` with MALFORMED.
        """
        time = date_of(dict(event), "event_timestamp")
        if time is None:
            time = self.issue_time if self.event_time is None else self.event_time
        return min(time, self.issue_time)


def verify_security_event_token(
    parsed: UnverifiedAssertion,
    key_set: KeySet,
    *,
    audience: str,
    algorithms: Mapping[str, Algorithm],
    now: float,
    max_age: float,
) -> SecurityEventToken:
    """Return the claims of a security event token whose issuer has the keys `key_set`.

    `algorithms`: the accepted values of `alg`, with their algorithms. `max_age`: the seconds since `iat` after which it is
    refused. Does not check `iss`, and neither interprets the subject nor the events.

    Raises `InvalidTokenError` with MALFORMED, WRONG_TYPE, WRONG_AUDIENCE, UNKNOWN_KEY, BAD_SIGNATURE, EXPIRED or
    NOT_YET_VALID.
    """
    if "typ" not in parsed.header:
        raise InvalidTokenError(InvalidReason.WRONG_TYPE, f"typ is missing; it must be {SET_TYPE}")
    verify_signature(parsed, key_set, types=(SET_TYPE,), algorithms=algorithms)
    claims = parsed.payload
    if audience not in audiences(claims):
        raise InvalidTokenError(InvalidReason.WRONG_AUDIENCE, "aud is another receiver")
    for name in ("exp", "sub"):
        if name in claims:
            raise malformed(f"{name} must not be in a security event token")
    return SecurityEventToken(
        token_id=_id(claims, "jti", required=True),
        issue_time=_issue_time(claims, now, max_age),
        event_time=date_of(claims, "toe"),
        transaction_id=_id(claims, "txn"),
        subject=_subject(claims),
        events=_events(claims),
    )


def _id(claims: Mapping[str, Any], name: str, *, required: bool = False) -> str:
    value = claims.get(name, None if required else "")
    if not isinstance(value, str) or len(value) > MAX_SET_ID or (required and not value):
        raise malformed(f"{name} must be a text of at most {MAX_SET_ID} characters")
    if not value.isprintable():
        raise malformed(f"{name} has a character that is not printable")
    return value


def _issue_time(claims: dict[str, Any], now: float, max_age: float) -> float:
    issue_time = date_of(claims, "iat")
    if issue_time is None:
        raise malformed("iat is missing")
    for name in ("iat", "nbf"):
        if (date_of(claims, name) or 0) > now + ASSERTION_LEEWAY:
            raise InvalidTokenError(InvalidReason.NOT_YET_VALID, f"{name} is ahead")
    if issue_time < now - max_age:
        raise InvalidTokenError(InvalidReason.EXPIRED, f"iat is more than {max_age:g} s ago")
    return issue_time


def _subject(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    subject = claims.get("sub_id")
    if not isinstance(subject, dict) or not isinstance(subject.get("format"), str):
        raise malformed("sub_id must be a subject identifier with a format (RFC 9493)")
    return subject


def _events(claims: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    events = claims.get("events")
    if not isinstance(events, dict) or not 0 < len(events) <= MAX_EVENTS:
        raise malformed(f"events must be an object with 1 to {MAX_EVENTS} events")
    for uri, event in events.items():
        if not 0 < len(uri) <= MAX_EVENT_TYPE or not uri.isprintable():
            raise malformed(f"events has a type that is no URI of at most {MAX_EVENT_TYPE} characters")
        if not isinstance(event, dict):
            raise malformed("events has an event that is no object")
    return events
