"""`tokens.json`: one token and one verdict a case, without revocations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.hostile_tokens import VECTORS, token_of
from tests.support.token_mint import b64
from tests.support.validation_vectors.fixed import (
    AUDIENCE,
    ISSUER,
    MINTS,
    NOW,
    FixedMint,
    key,
    key_set,
    p384_jwk,
    weak_jwk,
)

ACTIVE = "ACTIVE"
_SESSION = "0b6f1a0e-5b5c-4f0e-9a53-111111111111"
_DEFAULTS: Mapping[str, Any] = {
    "now": NOW,
    "leeway": 0,
    "audience": AUDIENCE,
    "required_scopes": ["read"],
    "token_types": ["ACCESS"],
}
_OTHER_USE = FixedMint("unpublished", "use-enc")
_OTHER_ALG = FixedMint("unpublished", "alg-rs512")


def document() -> dict[str, Any]:
    """Return the content of the file."""
    cases = [*_good(), *_kinds(), *_times(), *_keys(), *_sizes(), *_hostile()]
    names = [case["name"] for case in cases]
    assert len(names) == len(set(names)), "two cases have the same name"
    jwks: list[dict[str, Any]] = [mint.jwk for mint in MINTS.values()]
    jwks += [weak_jwk(), p384_jwk(), {**_OTHER_USE.jwk, "use": "enc"}, {**_OTHER_ALG.jwk, "alg": "RS512"}]
    return {
        "about": "Tokens with their verdicts. README.md describes the fields.",
        "issuer": ISSUER,
        "key_set": key_set(1, jwks),
        "defaults": dict(_DEFAULTS),
        "cases": cases,
    }


def _case(name: str, token: str, verdict: str, /, **changes: Any) -> dict[str, Any]:
    return {"name": name, "token": token, **changes, "verdict": verdict}


def _claims(jti: str, token_type: str = "ACCESS", **changes: Any) -> dict[str, Any]:
    return {
        "token_type": token_type,
        "token_id": jti,
        "session_id": _SESSION,
        "subject": "user-1",
        "client_id": "web",
        "audience": ["api"],
        "scopes": ["read", "write"],
        **changes,
    }


def _good() -> Iterator[dict[str, Any]]:
    for mint in MINTS.values():
        token = mint.token(NOW, jti="good")
        yield _case(
            f"an access token signed with {mint.algorithm}", token, ACTIVE, expect_claims=_claims("good")
        )
    mint = MINTS["es256"]
    yield _case("typ with its full name", mint.token(NOW, {"typ": "application/at+jwt"}), ACTIVE)
    yield _case("typ in upper case", mint.token(NOW, {"typ": "AT+JWT"}), ACTIVE)
    yield _case("a header with members that have no meaning", mint.token(NOW, {"x": {"y": [1]}}), ACTIVE)
    yield _case(
        "aud is one text",
        mint.token(NOW, aud="api", jti="a"),
        ACTIVE,
        expect_claims=_claims("a"),
    )
    yield _case("one of several audiences", mint.token(NOW, aud=["other", "api"]), ACTIVE)
    yield _case(
        "no session", mint.token(NOW, sid=..., jti="b"), ACTIVE, expect_claims=_claims("b", session_id="")
    )
    yield _case("no scope, and none is required", mint.token(NOW, scope=...), ACTIVE, required_scopes=[])
    yield _case("all required scopes", mint.token(NOW), ACTIVE, required_scopes=["write", "read"])
    yield _case(
        "one required scope of two", mint.token(NOW), "INSUFFICIENT_SCOPE", required_scopes=["read", "admin"]
    )
    yield _case("no audience is required", mint.token(NOW, aud=["other"]), ACTIVE, audience=None)
    payload = json.dumps(
        mint.claims(NOW, jti="c", sub="üser-\U0001f511"), ensure_ascii=False, indent=2
    ).encode()
    yield _case(
        "white space in the payload, and a subject that is not ASCII",
        mint.token_of(payload),
        ACTIVE,
        expect_claims=_claims("c", subject="üser-\U0001f511"),
    )
    payload = json.dumps(mint.claims(NOW, jti="d")).replace("jti", "\\u006ati").encode()
    yield _case("an escaped name", mint.token_of(payload), ACTIVE, expect_claims=_claims("d"))
    header, payload = (
        json.dumps(members).encode()
        for members in (
            {"alg": "ES256", "typ": "at+jwt", "kid": mint.jwk["kid"], "x": "?"},
            mint.claims(NOW, x="?"),
        )
    )
    yield _case("a question mark in header and payload", mint.raw(header, payload), ACTIVE)
    broken = (b'"?"', b'"\xff"')
    yield _case("a header that is not UTF-8", mint.raw(header.replace(*broken), payload), "MALFORMED")
    yield _case("a payload that is not UTF-8", mint.raw(header, payload.replace(*broken)), "MALFORMED")
    deep: Any = 1
    for _ in range(15):
        deep = [deep]
    yield _case("nested 16 deep", mint.token(NOW, x=deep), ACTIVE)
    yield _case("nested 17 deep", mint.token(NOW, x=[deep]), "MALFORMED")
    yield _case("a name of Object.prototype as a claim", mint.token(NOW, __proto__={"a": 1}, jti="e"), ACTIVE)


def _kinds() -> Iterator[dict[str, Any]]:
    mint = MINTS["eddsa"]
    id_token = mint.token(NOW, {"typ": "JWT"}, jti=..., client_id=..., azp="web", scope=..., nonce="n")
    wanted = _claims("", "ID", scopes=[])
    unscoped: dict[str, Any] = {"required_scopes": []}
    yield _case("an ID token", id_token, ACTIVE, **unscoped, token_types=["ID"], expect_claims=wanted)
    yield _case("an ID token where access tokens are accepted", id_token, "WRONG_TYPE", **unscoped)
    sealed = mint.token(NOW, {"typ": "JWT"}, azp="web", sealed_sub="x")
    yield _case("an ID token with a pairwise subject", sealed, "WRONG_TYPE", **unscoped, token_types=["ID"])
    access = mint.token(NOW)
    yield _case("an access token where ID tokens are accepted", access, "WRONG_TYPE", token_types=["ID"])
    names: dict[str, Any] = {"jti": ..., "client_id": ..., "txn": "txn-1", "req_wl": "web"}
    transaction = mint.token(NOW, {"typ": "txntoken+jwt"}, **names)
    kind: dict[str, Any] = {"token_types": ["TRANSACTION"]}
    wanted = _claims("txn-1", "TRANSACTION")
    yield _case("a transaction token", transaction, ACTIVE, **kind, expect_claims=wanted)
    yield _case("a transaction token where access tokens are accepted", transaction, "WRONG_TYPE")
    for name in ("txn", "req_wl", "scope"):
        token = mint.token(NOW, {"typ": "txntoken+jwt"}, **{**names, name: ...})
        yield _case(f"a transaction token without {name}", token, "MALFORMED", **kind)
    token = mint.token(NOW, {"typ": "txntoken+jwt"}, **{**names, "txn": ""})
    yield _case("a transaction token with an empty txn", token, "MALFORMED", **kind)
    for name in ("a logout token", "a security event token"):
        typ = {"a logout token": "logout+jwt", "a security event token": "secevent+jwt"}[name]
        token = mint.token(NOW, {"typ": typ})
        yield _case(
            f"{name}, with every kind accepted",
            token,
            "WRONG_TYPE",
            token_types=["ACCESS", "ID", "TRANSACTION"],
        )
    yield _case("an opaque refresh token", "rt_" + b64(bytes(48)), "MALFORMED")


def _times() -> Iterator[dict[str, Any]]:
    mint = MINTS["es256"]
    token = mint.token(NOW)
    yield _case("the last moment before exp", token, ACTIVE, now=NOW + 899.999)
    yield _case("the moment of exp", token, "EXPIRED", now=NOW + 900)
    yield _case("the last moment of the leeway after exp", token, ACTIVE, now=NOW + 959.999, leeway=60)
    yield _case("the end of the leeway after exp", token, "EXPIRED", now=NOW + 960, leeway=60)
    yield _case("5 s before iat and nbf", token, ACTIVE, now=NOW - 5)
    yield _case("more than 5 s before iat and nbf", token, "NOT_YET_VALID", now=NOW - 5.001)
    yield _case("within a leeway before iat and nbf", token, ACTIVE, now=NOW - 60, leeway=60)
    yield _case(
        "more than the leeway before iat and nbf", token, "NOT_YET_VALID", now=NOW - 60.001, leeway=60
    )
    early = mint.token(NOW, nbf=NOW + 100)
    yield _case("before nbf", early, "NOT_YET_VALID")
    yield _case("after nbf", early, ACTIVE, now=NOW + 100)
    yield _case("without nbf", mint.token(NOW, nbf=...), ACTIVE)
    fraction = mint.token(NOW, exp=NOW + 900.5)
    yield _case("before an exp with a fraction", fraction, ACTIVE, now=NOW + 900.25)
    yield _case("at an exp with a fraction", fraction, "EXPIRED", now=NOW + 900.5)
    payload = json.dumps(mint.claims(NOW)).replace(f'"exp": {NOW + 900}', '"exp": 1.7000009e9').encode()
    yield _case("exp in the notation with an exponent", mint.token_of(payload), ACTIVE, now=NOW + 899)


def _keys() -> Iterator[dict[str, Any]]:
    unpublished = FixedMint("unpublished")
    yield _case("a key that is not in the key set", unpublished.token(NOW), "UNKNOWN_KEY")
    yield _case("a key for encryption in the key set", _OTHER_USE.token(NOW), "UNKNOWN_KEY")
    yield _case("a key whose alg is of another key type", _OTHER_ALG.token(NOW), "UNKNOWN_KEY")
    es256 = MINTS["es256"]
    yield _case("a key on P-384 in the key set", es256.token(NOW, {"kid": "p-384"}), "UNKNOWN_KEY")
    header = json.dumps({"alg": "RS256", "typ": "at+jwt", "kid": "rsa-1024"}).encode()
    weak = es256.raw(header, json.dumps(es256.claims(NOW)).encode(), key("rsa-1024"))
    yield _case("an RSA key of 1024 bits in the key set", weak, "UNKNOWN_KEY")
    eddsa = MINTS["eddsa"]
    yield _case("the name Ed25519 for EdDSA", eddsa.token(NOW, {"alg": "Ed25519"}), "BAD_SIGNATURE")
    rs256 = MINTS["rs256"]
    yield _case("alg RS512 with an RS256 key", rs256.token(NOW, {"alg": "RS512"}), "BAD_SIGNATURE")
    token = rs256.token(NOW)
    yield _case("the kid of another key", es256.token(NOW, {"kid": eddsa.jwk["kid"]}), "BAD_SIGNATURE")
    head, payload, signature = token.split(".")
    other = b64(json.dumps(rs256.claims(NOW, scope="read write admin")).encode())
    yield _case("the payload of another token", f"{head}.{other}.{signature}", "BAD_SIGNATURE")
    changed = ("B" if signature[0] == "A" else "A") + signature[1:]
    yield _case("a changed bit in an RS256 signature", f"{head}.{payload}.{changed}", "BAD_SIGNATURE")


def _sizes() -> Iterator[dict[str, Any]]:
    mint = MINTS["eddsa"]
    size = len(mint.token(NOW, jti="s", pad=""))
    missing = 16 * 1024 - size
    pad = "x" * (missing * 3 // 4)
    while len(mint.token(NOW, jti="s", pad=pad)) < 16 * 1024:
        pad += "x"
    yield _case("16384 bytes", mint.token(NOW, jti="s", pad=pad), ACTIVE)
    yield _case("16386 bytes", mint.token(NOW, jti="s", pad=pad + "xx"), "TOO_LARGE")


def _hostile() -> Iterator[dict[str, Any]]:
    mint = MINTS["es256"]
    for vector in VECTORS:
        token = token_of(vector, mint, key("unpublished"))
        if "\ud800" in token:
            continue  # many JSON parsers refuse the whole file for it
        yield _case(f"hostile: {vector['name']}", token, vector["reason"])
