from __future__ import annotations

import pickle
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from token_service.tokens import base64url
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import (
    MAX_GENERATION,
    MacKeys,
    OpaqueToken,
    OpaqueTokenError,
    derive_first_secret,
    looks_opaque,
    parse_opaque_token,
)
from token_service.tokens.secret import Secret

KEYS = MacKeys({1: Secret(b"1" * 32), 7: Secret(b"7" * 32)}, active=7)
SESSION = UUID("0b6f1a0e-5b5c-4f0e-9a53-111111111111")
TOKEN = OpaqueToken(TokenKind.REFRESH, 7, SESSION, 3, Secret(b"s" * 32))
TEXT = TOKEN.format(KEYS)

_tokens = st.builds(
    OpaqueToken,
    st.sampled_from([TokenKind.REFRESH, TokenKind.SESSION, TokenKind.PERSONAL_ACCESS]),
    st.sampled_from([1, 7]),
    st.uuids(),
    st.integers(0, MAX_GENERATION),
    st.binary(min_size=32, max_size=32).map(Secret),
)


@given(_tokens)
def test_formatted_token_round_trips(token: OpaqueToken) -> None:
    text = token.format(KEYS)
    parsed = parse_opaque_token(text, KEYS)
    assert looks_opaque(text)
    assert (parsed.kind, parsed.key_version, parsed.session_id, parsed.generation) == (
        token.kind,
        token.key_version,
        token.session_id,
        token.generation,
    )
    assert parsed.secret.reveal() == token.secret.reveal()
    assert parsed.secret_hash == token.secret_hash


@settings(max_examples=500)
@given(
    st.one_of(
        st.text(max_size=120),
        st.text(alphabet=st.characters(codec="ascii"), min_size=len(TEXT), max_size=len(TEXT)),
        st.text(alphabet="ABCDEFabcdef0123-_", min_size=len(TEXT) - 3, max_size=len(TEXT) - 3).map(
            "rt_".__add__
        ),
        st.binary(min_size=71, max_size=71).map(base64url.encode).map("st_".__add__),
        st.just(TEXT).map(lambda t: t + "="),
    )
)
def test_arbitrary_text_raises_only_opaque_token_error(text: str) -> None:
    with pytest.raises(OpaqueTokenError):
        parse_opaque_token(text, KEYS)


@settings(max_examples=400)
@given(_tokens, st.data())
def test_mutated_token_is_refused(token: OpaqueToken, data: st.DataObject) -> None:
    text = token.format(KEYS)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[at]))
    mutated = data.draw(
        st.sampled_from(
            [text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :], text[:at] + other + text[at:]]
        )
    )
    with pytest.raises(OpaqueTokenError):
        parse_opaque_token(mutated, KEYS)


def test_every_flipped_bit_is_a_forgery() -> None:
    data = bytearray(base64url.decode(TEXT[3:].encode()))
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(OpaqueTokenError) as caught:
            parse_opaque_token("rt_" + base64url.encode(bytes(data)), KEYS)
        assert caught.value.forged
        data[bit // 8] ^= 1 << bit % 8


def test_refresh_token_with_session_prefix_is_a_forgery() -> None:
    with pytest.raises(OpaqueTokenError) as caught:
        parse_opaque_token("st_" + TEXT[3:], KEYS)
    assert caught.value.forged


def test_token_of_removed_or_replaced_key_is_a_forgery() -> None:
    for keys in (MacKeys({1: KEYS.keys[1]}, 1), MacKeys({7: Secret(b"8" * 32)}, 7)):
        with pytest.raises(OpaqueTokenError) as caught:
            parse_opaque_token(TEXT, keys)
        assert caught.value.forged


def test_successor_is_deterministic_and_differs_by_key_version_and_session() -> None:
    first, second = TOKEN.successor(KEYS, 7), TOKEN.successor(KEYS, 7)
    assert first.format(KEYS) == second.format(KEYS)
    assert first.generation == 4
    assert first.secret.reveal() != TOKEN.secret.reveal()
    assert TOKEN.successor(KEYS, 1).secret.reveal() != first.secret.reveal()
    other = OpaqueToken(TokenKind.REFRESH, 7, UUID(int=1), 3, TOKEN.secret)
    assert other.successor(KEYS, 7).secret.reveal() != first.secret.reveal()


def test_first_secret_depends_on_every_input() -> None:
    secrets = {
        derive_first_secret(KEYS, version, kind, session, request).reveal()
        for version in (1, 7)
        for kind in (TokenKind.REFRESH, TokenKind.SESSION)
        for session in (SESSION, UUID(int=1))
        for request in ("a", "b")
    }
    assert len(secrets) == 16


def test_missing_active_version_is_refused() -> None:
    with pytest.raises(ValueError, match="active"):
        MacKeys({1: Secret(b"1" * 32)}, active=2)


def test_secret_is_not_shown_pickled_hashed_or_compared() -> None:
    secret = Secret(b"hunter2-hunter2-hunter2")
    assert "hunter2" not in repr(secret) + str(secret) + repr(TOKEN) + repr(KEYS)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        hash(secret)
    assert secret != Secret(b"hunter2-hunter2-hunter2")
