"""The transmitters in the policy file."""

from __future__ import annotations

from typing import Any

import pytest

from token_service.core.login.upstreams import parse_upstreams
from token_service.core.security_events.event_types import BY_NAME, EventAction
from token_service.core.security_events.subjects import Named
from token_service.core.security_events.transmitters import (
    MAX_AGE,
    POLL_INTERVAL,
    Polling,
    Push,
    Transmitter,
    parse_transmitters,
)
from token_service.errors import ConfigurationError

ISSUER = "https://idp.example"
GOOD: dict[str, Any] = {
    "issuer": ISSUER,
    "keys": "https://idp.example/keys",
    "audience": "https://tokens.example.org",
    "algorithms": ["RS256", "ES256"],
    "push": {},
}
UPSTREAMS = parse_upstreams(
    {
        "upstreams": {
            "corporate": {
                "kind": "oidc", "issuer": "https://login.example", "client_id": "x", "client_secret_file": "/s",
                "subject": "staff:{sub}",
            },
            "by-email": {
                "kind": "oidc", "issuer": "https://mail.example", "client_id": "x", "client_secret_file": "/s",
                "subject": "{email}",
            },
            "own": {"kind": "challenge", "url": "https://own.example/login"},
        }
    }
)  # fmt: skip


def parse(**changes: Any) -> Transmitter:
    settings = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return parse_transmitters({"security_event_transmitters": {"idp": settings}}, UPSTREAMS)["idp"]


def test_defaults_of_a_transmitter() -> None:
    found = parse()
    assert (found.push, found.poll, found.max_age, found.upstream) == (Push(), None, MAX_AGE, "")
    assert set(found.algorithms) == {"RS256", "ES256"}
    assert {uri.rpartition("/")[2]: action.value for uri, action in found.actions.items()} == {
        "session-revoked": "revoke_session",
        "credential-change": "revoke_session",
        "token-claims-change": "ignore",
        "assurance-level-change": "revoke_session",
        "device-compliance-change": "revoke_session",
        "account-disabled": "revoke_subject",
        "account-purged": "revoke_subject",
        "sessions-revoked": "revoke_session",
        "credential-compromise": "revoke_subject",
        "identifier-changed": "ignore",
        "identifier-recycled": "revoke_subject",
    }


def test_poll_and_actions_are_read() -> None:
    found = parse(
        push=None,
        poll={"endpoint": "https://idp.example/poll", "token_file": "/t", "interval": "30s"},
        events={"session-revoked": "revoke_subject"},
        max_age="1h",
    )
    assert found.poll == Polling(endpoint="https://idp.example/poll", token_file="/t", interval=30)
    assert (found.push, found.max_age) == (None, 3600)
    assert found.actions[BY_NAME["session-revoked"].uri] is EventAction.REVOKE_SUBJECT
    assert parse(poll={"endpoint": "https://idp.example/poll"}).poll == Polling(
        endpoint="https://idp.example/poll", interval=POLL_INTERVAL
    )


@pytest.mark.parametrize(
    ("upstream", "issuer", "subject"),
    [
        (None, ISSUER, "idp:alice"),
        (None, "https://login.example", ""),
        ("corporate", ISSUER, "staff:alice"),
        ("corporate", "https://login.example", "staff:alice"),
        ("corporate", "https://mail.example", ""),
        ("by-email", "https://mail.example", ""),
    ],
)
def test_subjects_follow_those_of_the_upstream(upstream: str | None, issuer: str, subject: str) -> None:
    found = parse(upstream=upstream)
    assert found.subjects.named_by({"format": "iss_sub", "iss": issuer, "sub": "alice"}) == Named(subject)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no audience": ({"audience": None}, "audience: is required"),
    "no algorithms": ({"algorithms": None}, "algorithms: is required"),
    "an empty list": ({"algorithms": []}, "algorithms: must be a list"),
    "a symmetric algorithm": ({"algorithms": ["HS256"]}, "'HS256' is none of"),
    "no way of delivery": ({"push": None}, "needs the table push or the table poll"),
    "a misspelled setting": ({"audiences": ["x"]}, "did you mean audience?"),
    "a missing upstream": ({"upstream": "corporat"}, "did you mean corporate?"),
    "a login service as upstream": ({"upstream": "own"}, "names no upstream of kind oidc"),
    "an unknown event": ({"events": {"session-revokd": "ignore"}}, "did you mean session-revoked?"),
    "an unknown action": ({"events": {"session-revoked": "revoke"}}, "did you mean revoke_subject?"),
    "an unknown format": ({"subjects": {"phone": "{phone}"}}, "subjects.phone: no such setting"),
    "another placeholder": ({"subjects": {"email": "{sub}"}}, "must have the one placeholder {email}"),
    "a poll without endpoint": ({"poll": {}}, "poll.endpoint: is required"),
    "a short interval": ({"poll": {"endpoint": "https://x", "interval": "10ms"}}, "poll.interval"),
    "a long memory": ({"max_age": "8d"}, "max_age: must be from 1 s to 604800 s"),
    "a plain URL": ({"keys": "http://idp.example/keys"}, "keys: must be"),
    "a text for a table": ({"push": "yes"}, "push: must be a table"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_each_mistake_is_named(case: str) -> None:
    changes, problem = REFUSED[case]
    with pytest.raises(ConfigurationError) as caught:
        parse(**changes)
    assert "security_event_transmitters.idp: " in caught.value.message
    assert problem in caught.value.message


def test_one_issuer_has_one_entry() -> None:
    with pytest.raises(ConfigurationError, match="is the issuer of several entries"):
        parse_transmitters({"security_event_transmitters": {"a": GOOD, "b": GOOD}}, {})
