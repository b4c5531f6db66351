"""What subject identifiers name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from token_service.core.grants.subjects import SubjectTemplate
from token_service.core.limits import MAX_SUBJECT
from token_service.core.security_events.refusal import SetErrorCode, SetRefusedError
from token_service.core.security_events.subjects import MAX_ALIASES, Named, SubjectMapping
from token_service.tokens.opaque_token import _TEXT_LENGTH

ISSUER = "https://idp.example"
MAPPING = SubjectMapping(
    {ISSUER},
    {
        "iss_sub": SubjectTemplate.parse("idp:{sub}"),
        "opaque": SubjectTemplate.parse("{id}"),
        "email": SubjectTemplate.parse("mail/{email}"),
    },
)
ALICE = {"format": "iss_sub", "iss": ISSUER, "sub": "alice"}
SESSION = {"format": "opaque", "id": "session-1"}


@pytest.mark.parametrize(
    ("identifier", "named"),
    [
        (ALICE, Named("idp:alice")),
        ({**ALICE, "iss": f"{ISSUER}/"}, Named()),
        ({"format": "opaque", "id": "alice"}, Named("alice")),
        ({"format": "email", "email": "a@b.example"}, Named("mail/a@b.example")),
        ({"format": "account", "uri": "acct:alice"}, Named()),
        (
            {"format": "aliases", "identifiers": [{"format": "did", "url": "did:x"}, ALICE]},
            Named("idp:alice"),
        ),
        ({"format": "complex", "user": ALICE}, Named("idp:alice")),
        ({"format": "complex", "session": SESSION}, Named("", "session-1")),
        ({"format": "complex", "user": ALICE, "session": SESSION}, Named("idp:alice", "session-1")),
        ({"format": "complex", "session": {"format": "iss_sub", "iss": "x", "sub": "s"}}, Named("", "s")),
        ({"format": "complex", "device": SESSION}, Named()),
    ],
)
def test_identifier_names(identifier: dict[str, Any], named: Named) -> None:
    assert MAPPING.named_by(identifier) == named


@pytest.mark.parametrize(
    "identifier",
    [
        {"format": "iss_sub", "iss": ISSUER},
        {"format": "iss_sub", "iss": ISSUER, "sub": ["alice"]},
        {"format": "opaque", "id": ""},
        {"format": "opaque", "id": "a" * (MAX_SUBJECT + 1)},
        {"format": "opaque", "id": "a\nb"},
        {"format": "opaque", "id": "rt_" + "A" * _TEXT_LENGTH},
        {"format": "email", "email": 5},
        {"format": "aliases", "identifiers": [ALICE] * (MAX_ALIASES + 1)},
        {"format": "aliases", "identifiers": ["alice"]},
        {"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": [ALICE]}]},
        {"format": "complex", "user": "alice"},
        {"format": "complex", "user": {"id": "alice"}},
        {"format": "complex", "session": {"id": "alice"}},
        {"format": "complex", "session": {"format": "opaque"}},
    ],
)
def test_identifier_that_breaks_its_format_is_refused(identifier: dict[str, Any]) -> None:
    with pytest.raises(SetRefusedError) as caught:
        MAPPING.named_by(identifier)
    assert caught.value.code is SetErrorCode.INVALID_REQUEST
    assert caught.value.problem.startswith("sub_id ")


_NAMES = st.sampled_from(
    ["format", "iss", "sub", "id", "email", "identifiers", "user", "session", "device", "tenant"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=8,
)
_FORMATS = st.sampled_from(["iss_sub", "opaque", "email", "aliases", "complex", "uri"])


@given(
    kind=_FORMATS,
    members=st.dictionaries(_NAMES, _VALUES | _FORMATS.map(lambda each: {"format": each}), max_size=5),
)
def test_any_identifier_names_something_or_is_refused(kind: str, members: dict[str, Any]) -> None:
    try:
        named = MAPPING.named_by({**members, "format": kind})
    except SetRefusedError:
        return
    assert len(named.subject) <= MAX_SUBJECT
    assert isinstance(named.upstream_session, str)
