"""Verification of security event tokens: each defect has its reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.token_mint import Mint
from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.assertions import ASSERTION_ALGORITHMS, parse_assertion
from token_service.tokens.key_set import KeySet
from token_service.tokens.security_event_token import (
    MAX_EVENTS,
    SecurityEventToken,
    verify_security_event_token,
)

NOW = 1_800_000_000.0
MAX_AGE = 3600.0
AUDIENCE = "https://tokens.example.org"
MINT = Mint("ES256", "transmitter")
OTHER = Mint("ES256", "other")
KEYS = KeySet.from_jwks([MINT.jwk])
EVENT = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"


def token_of(header: dict[str, Any] | None = None, /, mint: Mint = MINT, **changes: Any) -> str:
    """Return a token; a change to `...` omits a claim."""
    claims = {
        "iss": "https://idp.example",
        "aud": AUDIENCE,
        "iat": int(NOW),
        "jti": "set-1",
        "txn": "txn-1",
        "sub_id": {"format": "opaque", "id": "alice"},
        "events": {EVENT: {"event_timestamp": int(NOW) - 5}},
        **changes,
    }
    payload = json.dumps({name: value for name, value in claims.items() if value is not ...}).encode()
    return mint.token_of(payload, {"typ": "secevent+jwt", **(header or {})})


def verify(token: str) -> SecurityEventToken:
    return verify_security_event_token(
        parse_assertion(token),
        KEYS,
        audience=AUDIENCE,
        algorithms={"ES256": ASSERTION_ALGORITHMS["ES256"]},
        now=NOW,
        max_age=MAX_AGE,
    )


def test_claims_of_a_valid_token_are_returned() -> None:
    found = verify(token_of())
    assert (found.token_id, found.transaction_id, found.issue_time) == ("set-1", "txn-1", NOW)
    assert found.subject == {"format": "opaque", "id": "alice"}
    assert dict(found.events) == {EVENT: {"event_timestamp": NOW - 5}}
    assert (
        verify(token_of({"typ": "application/SECEVENT+JWT"}, aud=["x", AUDIENCE], txn=...)).transaction_id
        == ""
    )


@pytest.mark.parametrize(
    ("claims", "event", "time"),
    [
        ({}, {"event_timestamp": NOW - 5.5}, NOW - 5.5),
        ({"toe": NOW - 9}, {}, NOW - 9),
        ({"toe": NOW - 9}, {"event_timestamp": NOW - 5}, NOW - 5),
        ({}, {}, NOW),
        ({}, {"event_timestamp": NOW + 500}, NOW),
    ],
)
def test_time_of_an_event_is_the_most_precise_and_never_after_the_issue(
    claims: dict[str, Any], event: dict[str, Any], time: float
) -> None:
    found = verify(token_of(**claims, events={EVENT: event}))
    assert found.time_of(found.events[EVENT]) == time


DEFECTS: dict[str, tuple[dict[str, Any], dict[str, Any], InvalidReason]] = {
    "no typ": ({"typ": ...}, {}, InvalidReason.WRONG_TYPE),
    "typ of a JWT": ({"typ": "JWT"}, {}, InvalidReason.WRONG_TYPE),
    "typ of a logout token": ({"typ": "logout+jwt"}, {}, InvalidReason.WRONG_TYPE),
    "an algorithm that is not accepted": ({"alg": "EdDSA"}, {}, InvalidReason.BAD_SIGNATURE),
    "no algorithm": ({"alg": "none"}, {}, InvalidReason.BAD_SIGNATURE),
    "a critical header": ({"crit": ["x"]}, {}, InvalidReason.MALFORMED),
    "another kid": ({"kid": "unknown"}, {}, InvalidReason.UNKNOWN_KEY),
    "another audience": ({}, {"aud": "https://other.example"}, InvalidReason.WRONG_AUDIENCE),
    "no audience": ({}, {"aud": ...}, InvalidReason.WRONG_AUDIENCE),
    "an expiry": ({}, {"exp": int(NOW) + 60}, InvalidReason.MALFORMED),
    "a sub": ({}, {"sub": "alice"}, InvalidReason.MALFORMED),
    "no jti": ({}, {"jti": ...}, InvalidReason.MALFORMED),
    "an empty jti": ({}, {"jti": ""}, InvalidReason.MALFORMED),
    "a long jti": ({}, {"jti": "j" * 257}, InvalidReason.MALFORMED),
    "a jti with a line break": ({}, {"jti": "a\nb"}, InvalidReason.MALFORMED),
    "a txn that is no text": ({}, {"txn": 5}, InvalidReason.MALFORMED),
    "no iat": ({}, {"iat": ...}, InvalidReason.MALFORMED),
    "an iat that is no number": ({}, {"iat": "now"}, InvalidReason.MALFORMED),
    "an old iat": ({}, {"iat": NOW - MAX_AGE - 1}, InvalidReason.EXPIRED),
    "a future iat": ({}, {"iat": NOW + 60}, InvalidReason.NOT_YET_VALID),
    "a future nbf": ({}, {"nbf": NOW + 60}, InvalidReason.NOT_YET_VALID),
    "a toe that is no time": ({}, {"toe": True}, InvalidReason.MALFORMED),
    "no sub_id": ({}, {"sub_id": ...}, InvalidReason.MALFORMED),
    "a sub_id without format": ({}, {"sub_id": {"id": "alice"}}, InvalidReason.MALFORMED),
    "a sub_id that is a text": ({}, {"sub_id": "alice"}, InvalidReason.MALFORMED),
    "no events": ({}, {"events": ...}, InvalidReason.MALFORMED),
    "an empty events": ({}, {"events": {}}, InvalidReason.MALFORMED),
    "events in a list": ({}, {"events": [EVENT]}, InvalidReason.MALFORMED),
    "an event that is no object": ({}, {"events": {EVENT: True}}, InvalidReason.MALFORMED),
    "too many events": (
        {},
        {"events": {f"urn:{n}": {} for n in range(MAX_EVENTS + 1)}},
        InvalidReason.MALFORMED,
    ),
}


@pytest.mark.parametrize("case", DEFECTS)
def test_each_defect_has_its_reason(case: str) -> None:
    header, claims, reason = DEFECTS[case]
    with pytest.raises(InvalidTokenError) as caught:
        verify(token_of(header, **claims))
    assert caught.value.reason is reason


def test_signature_of_another_key_is_refused() -> None:
    with pytest.raises(InvalidTokenError) as caught:
        verify(token_of({"kid": MINT.jwk["kid"]}, OTHER))
    assert caught.value.reason is InvalidReason.BAD_SIGNATURE


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_CLAIMS = ("iss", "aud", "iat", "jti", "txn", "toe", "nbf", "exp", "sub", "sub_id", "events")


@settings(deadline=None)
@given(changes=st.dictionaries(st.sampled_from(_CLAIMS), _JSON | st.just(...), max_size=4))
def test_signed_token_with_any_claims_is_valid_or_refused_with_a_reason(changes: dict[str, Any]) -> None:
    try:
        found = verify(token_of(**changes))
        times = [found.time_of(event) for event in found.events.values()]
    except InvalidTokenError:
        pass
    else:
        assert not {"exp", "sub"} & {name for name, value in changes.items() if value is not ...}
        assert 0 < len(found.token_id) <= 256
        assert all(0 <= time <= found.issue_time for time in times)


@settings(deadline=None)
@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda data: MINT.raw(data, data)))
def test_text_that_is_no_token_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(InvalidTokenError):
        verify(text)
