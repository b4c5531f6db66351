"""Proofs in a request: exactly one, and readable."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from urllib.parse import quote_plus

import pytest
from hypothesis import given, strategies as st

from token_service.core.access.credentials import (
    ASSERTION_TYPE,
    AssertionProof,
    BearerProof,
    ClientSecretProof,
    parse_proof,
)
from token_service.errors import CallerUnauthenticatedError


def basic(text: str) -> str:
    return f"Basic {b64encode(text.encode()).decode()}"


def test_call_without_a_proof_has_none() -> None:
    assert parse_proof(None, None, None) is None


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_basic_credentials_are_form_decoded(scheme: str) -> None:
    header = basic("my+app%3A1:p%25ss").replace("Basic", scheme)
    proof = parse_proof(header, None, None)
    assert isinstance(proof, ClientSecretProof)
    assert (proof.client_id, proof.secret.reveal()) == ("my app:1", b"p%ss")


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_encoded_credentials_are_read_back(client_id: str, secret: str) -> None:
    proof = parse_proof(basic(f"{quote_plus(client_id)}:{quote_plus(secret)}"), None, None)
    assert isinstance(proof, ClientSecretProof)
    assert (proof.client_id, proof.secret.reveal()) == (client_id, secret.encode())


def test_bearer_token_and_assertion_are_told_apart() -> None:
    bearer = parse_proof("Bearer a.b.c", None, None)
    assert isinstance(bearer, BearerProof)
    assert bearer.token == "a.b.c"
    assertion = parse_proof(None, ASSERTION_TYPE, "a.b.c")
    assert isinstance(assertion, AssertionProof)
    assert assertion.assertion == "a.b.c"


@pytest.mark.parametrize(
    ("authorization", "assertion_type", "assertion", "told"),
    [
        ("Bearer a", ASSERTION_TYPE, "b", "more than one proof"),
        (basic("a:b"), None, "b", "more than one proof"),
        (None, "urn:other", "b", "client-assertion-type must be"),
        (None, None, "b", "client-assertion-type must be"),
        (None, ASSERTION_TYPE, None, "client-assertion is missing"),
        (None, ASSERTION_TYPE, "x" * 9000, "longer than"),
        ("Bearer", None, None, "exactly one token"),
        ("Bearer a b", None, None, "exactly one token"),
        ("Bearer " + "x" * 17000, None, None, "longer than"),
        ("Digest a", None, None, "Basic, Bearer or DPoP"),
        ("", None, None, "Basic, Bearer or DPoP"),
        ("Basic !", None, None, "not base64"),
        ("Basic " + "QQ" * 9000, None, None, "too long"),
        (basic("no colon"), None, None, "lacks"),
        (basic(":b"), None, None, "lacks"),
        (basic("a:"), None, None, "lacks"),
        (basic("a:%FF"), None, None, "not base64"),
        (basic("a" * 257 + ":b"), None, None, "too long"),
        (basic("a:" + "b" * 257), None, None, "too long"),
    ],
)
def test_unreadable_proof_is_refused(
    authorization: str | None, assertion_type: str | None, assertion: str | None, told: str
) -> None:
    with pytest.raises(CallerUnauthenticatedError) as refused:
        parse_proof(authorization, assertion_type, assertion)
    assert told in refused.value.message


@given(
    st.one_of(st.none(), st.text(max_size=80)),
    st.one_of(st.none(), st.text(max_size=10)),
    st.one_of(st.none(), st.text(max_size=10)),
)
def test_any_metadata_is_read_or_refused(a: str | None, b: str | None, c: str | None) -> None:
    with suppress(CallerUnauthenticatedError):
        parse_proof(a, b, c)


def test_no_proof_shows_its_secret() -> None:
    for proof in (
        parse_proof(basic("app:hunter22"), None, None),
        parse_proof("Bearer hunter22", None, None),
        parse_proof(None, ASSERTION_TYPE, "hunter22"),
    ):
        assert "hunter22" not in repr(proof)
