"""`proofs.json`: tokens that are bound to a key, with requests that prove the key or do not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

from tests.support.token_mint import b64, sign
from tests.support.validation_vectors.fixed import AUDIENCE, ISSUER, KEY_SET, MINTS, NOW, key
from tests.support.validation_vectors.tokens import ACTIVE
from token_service.tokens.jwk import public_jwk, thumbprint

METHOD: Final = "GET"
URI: Final = "https://api.example/orders"
_CERTIFICATE: Final = b64(hashlib.sha256(b"a certificate").digest())
_OTHER_CERTIFICATE: Final = b64(hashlib.sha256(b"another certificate").digest())


class _Holder:
    """A holder of a key that makes DPoP proofs."""

    def __init__(self, name: str, algorithm: str) -> None:
        self.key = key(name)
        self.algorithm = algorithm
        jwk = public_jwk(self.key.public_key())
        self.jwk: dict[str, Any] = {
            member: jwk[member] for member in ("kty", "crv", "x", "y") if member in jwk
        }
        self.jkt = thumbprint(self.jwk)

    def proof(self, token: str, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """Return a proof for `token`. A change to `...` omits the member."""
        claims = {
            "jti": "proof-1",
            "htm": METHOD,
            "htu": URI,
            "iat": NOW,
            "ath": b64(hashlib.sha256(token.encode()).digest()),
            **changes,
        }
        head = {"typ": "dpop+jwt", "alg": self.algorithm, "jwk": self.jwk, **(header or {})}
        return self.signed(_json(head), _json(claims))

    def signed(self, header: str, payload: str) -> str:
        """Sign any header and payload."""
        text = f"{b64(header.encode())}.{b64(payload.encode())}"
        return f"{text}.{b64(sign(self.key, text.encode()))}"


_HOLDER: Final = _Holder("holder", "ES256")
_OTHER: Final = _Holder("other-holder", "EdDSA")


def document() -> dict[str, Any]:
    """Return the content of the file."""
    cases = [*_presented(), *_flaws(), *_uris(), *_times()]
    names = [case["name"] for case in cases]
    assert len(names) == len(set(names)), "two cases have the same name"
    return {
        "about": "Bound tokens with proofs of their key. README.md describes the fields.",
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "start": NOW,
        "key_set": KEY_SET,
        "cases": cases,
    }


def _json(members: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in members.items() if value is not ...})


def _case(name: str, token: str, *requests: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "token": token, "requests": list(requests)}


def _request(verdict: str, scheme: str = "DPoP", at: float = 0, **fields: Any) -> dict[str, Any]:
    asked = {"dpop_proof": None, "certificate_thumbprint": "", "method": METHOD, "uri": URI, **fields}
    return {"at": at, "scheme": scheme, **asked, "verdict": verdict}


def _token(**cnf: str) -> str:
    return MINTS["es256"].token(
        NOW, **({"cnf": {name.replace("_", "#"): cnf[name] for name in cnf}} if cnf else {})
    )


_DPOP: Final = _token(jkt=_HOLDER.jkt)
_MTLS: Final = _token(x5t_S256=_CERTIFICATE)
_BOTH: Final = _token(jkt=_HOLDER.jkt, x5t_S256=_CERTIFICATE)


def _presented() -> Iterator[dict[str, Any]]:
    proof = _HOLDER.proof(_DPOP)
    certificate: dict[str, Any] = {"certificate_thumbprint": _CERTIFICATE}
    yield _case("a DPoP token with its proof", _DPOP, _request(ACTIVE, dpop_proof=proof))
    yield _case("a DPoP token without a proof", _DPOP, _request("PROOF_MISSING"))
    yield _case("a DPoP token as Bearer", _DPOP, _request("PROOF_MISSING", "Bearer"))
    yield _case(
        "a DPoP token as Bearer, with a proof", _DPOP, _request("PROOF_MISSING", "Bearer", dpop_proof=proof)
    )
    yield _case("a DPoP token with a certificate", _DPOP, _request("PROOF_MISSING", "Bearer", **certificate))
    yield _case(
        "a DPoP token with the proof of another key",
        _DPOP,
        _request("WRONG_KEY", dpop_proof=_OTHER.proof(_DPOP)),
    )
    other = _token(jkt=_OTHER.jkt)
    yield _case("a DPoP token with an EdDSA proof", other, _request(ACTIVE, dpop_proof=_OTHER.proof(other)))
    yield _case(
        "a certificate-bound token over its connection", _MTLS, _request(ACTIVE, "Bearer", **certificate)
    )
    yield _case("a certificate-bound token without a certificate", _MTLS, _request("PROOF_MISSING", "Bearer"))
    yield _case(
        "a certificate-bound token with another certificate",
        _MTLS,
        _request("WRONG_KEY", "Bearer", certificate_thumbprint=_OTHER_CERTIFICATE),
    )
    yield _case(
        "a certificate-bound token with the scheme DPoP",
        _MTLS,
        _request("WRONG_TYPE", dpop_proof=_HOLDER.proof(_MTLS), **certificate),
    )
    both = _HOLDER.proof(_BOTH)
    yield _case(
        "a token bound twice, with both proofs", _BOTH, _request(ACTIVE, dpop_proof=both, **certificate)
    )
    yield _case("a token bound twice, with the DPoP proof", _BOTH, _request("PROOF_MISSING", dpop_proof=both))
    yield _case(
        "a token bound twice, with the certificate", _BOTH, _request("PROOF_MISSING", "Bearer", **certificate)
    )
    bearer = _token()
    yield _case("a bearer token without a proof", bearer, _request(ACTIVE, "Bearer"))
    yield _case(
        "a bearer token over a connection with a certificate",
        bearer,
        _request(ACTIVE, "Bearer", **certificate),
    )
    yield _case(
        "a bearer token with the scheme DPoP",
        bearer,
        _request("WRONG_TYPE", dpop_proof=_HOLDER.proof(bearer)),
    )
    unknown_ways: dict[str, Any] = {
        "another member": {"kid": "x"},
        "no member": {},
        "a text": "x",
        "null": None,
    }
    for name, cnf in unknown_ways.items():
        unknown = MINTS["es256"].token(NOW, cnf=cnf)
        yield _case(
            f"a token bound in an unknown way: cnf is {name}",
            unknown,
            _request("PROOF_MISSING", "Bearer", **certificate),
        )


def _flaws() -> Iterator[dict[str, Any]]:
    private = {**_HOLDER.jwk, "d": b64(bytes(31) + b"\1")}
    proof = _HOLDER.proof
    flaws = {
        "htm of another method": proof(_DPOP, htm="POST"),
        "htm in lower case": proof(_DPOP, htm="get"),
        "without htm": proof(_DPOP, htm=...),
        "without htu": proof(_DPOP, htu=...),
        "ath of another token": proof("another.token"),
        "without ath": proof(_DPOP, ath=...),
        "without jti": proof(_DPOP, jti=...),
        "an empty jti": proof(_DPOP, jti=""),
        "a jti of 257 characters": proof(_DPOP, jti="x" * 257),
        "without iat": proof(_DPOP, iat=...),
        "iat is text": proof(_DPOP, iat=str(NOW)),
        "iat is true": proof(_DPOP, iat=True),
        "a nonce that is no text": proof(_DPOP, nonce=7),
        "typ JWT": proof(_DPOP, header={"typ": "JWT"}),
        "without typ": proof(_DPOP, header={"typ": ...}),
        "without jwk": proof(_DPOP, header={"jwk": ...}),
        "jwk with the private key": proof(_DPOP, header={"jwk": private}),
        "jwk of another key": proof(_DPOP, header={"jwk": _OTHER.jwk}),
        "jwk is symmetric": proof(_DPOP, header={"jwk": {"kty": "oct", "k": "AAAA"}}),
        "alg none": proof(_DPOP, header={"alg": "none"}),
        "alg HS256": proof(_DPOP, header={"alg": "HS256"}),
        "alg of another key type": proof(_DPOP, header={"alg": "RS256"}),
        "crit": proof(_DPOP, header={"crit": ["x"], "x": 1}),
        "kid": proof(_DPOP, header={"kid": "x"}),
        "a changed signature": proof(_DPOP)[:-6] + "AAAAAA",
        "a fourth part": proof(_DPOP) + ".x",
        "not a JWT": "proof",
        "empty": "",
        "longer than 8 KiB": proof(_DPOP, pad="x" * 8192),
        "the access token itself": _DPOP,
        "a duplicate claim": _HOLDER.signed(
            _json({"typ": "dpop+jwt", "alg": "ES256", "jwk": _HOLDER.jwk}),
            f'{{"jti":"a","htm":"GET","htu":"{URI}","iat":{NOW},"iat":{NOW},'
            f'"ath":"{b64(hashlib.sha256(_DPOP.encode()).digest())}"}}',
        ),
    }
    for name, flawed in flaws.items():
        yield _case(f"a flawed proof: {name}", _DPOP, _request("PROOF_INVALID", dpop_proof=flawed))


def _uris() -> Iterator[dict[str, Any]]:
    same = {
        "the query and the fragment": (URI, f"{URI}?page=2#top"),
        "the case of scheme and host": ("HTTPS://API.example/orders", URI),
        "a default port": ("https://api.example:443/orders", URI),
        "an escaped letter": ("https://api.example/%6frders", URI),
        "the case of an escape": ("https://api.example/a%2Fb", "https://api.example/a%2fb"),
        "dot segments": ("https://api.example/a/../orders", URI),
        "an empty path": ("https://api.example", "https://api.example/"),
    }
    for name, (claimed, uri) in same.items():
        proof = _HOLDER.proof(_DPOP, htu=claimed)
        yield _case(f"the same URI but for {name}", _DPOP, _request(ACTIVE, dpop_proof=proof, uri=uri))
    for name, claimed in {
        "path": "https://api.example/order",
        "case of the path": "https://api.example/Orders",
        "slash at the end": "https://api.example/orders/",
        "host": "https://api.example.org/orders",
        "port": "https://api.example:8443/orders",
        "scheme": "http://api.example/orders",
        "user": "https://user@api.example/orders",
        "form, a path": "/orders",
    }.items():
        proof = _HOLDER.proof(_DPOP, htu=claimed)
        yield _case(f"a URI with another {name}", _DPOP, _request("PROOF_INVALID", dpop_proof=proof))
    proof = _HOLDER.proof(_DPOP, htu="https://api.example/a%2Fb")
    yield _case(
        "an encoded slash is no slash",
        _DPOP,
        _request("PROOF_INVALID", dpop_proof=proof, uri="https://api.example/a/b"),
    )


def _times() -> Iterator[dict[str, Any]]:
    proof = _HOLDER.proof(_DPOP)
    for at, verdict in {-10.001: "PROOF_INVALID", -10: ACTIVE, 70: ACTIVE, 70.001: "PROOF_INVALID"}.items():
        yield _case(
            f"a proof used {at:+g} s after its iat", _DPOP, _request(verdict, at=at, dpop_proof=proof)
        )
    again = _HOLDER.proof(_DPOP, jti="proof-2")
    yield _case(
        "a proof is accepted once",
        _DPOP,
        _request(ACTIVE, dpop_proof=proof),
        _request("PROOF_INVALID", dpop_proof=proof),
        _request(ACTIVE, at=1, dpop_proof=again),
        _request("PROOF_INVALID", at=64, dpop_proof=proof),
        _request("PROOF_INVALID", at=64, dpop_proof=again),
    )
    late = _HOLDER.proof(_DPOP, iat=NOW + 69, jti="late")
    yield _case(
        "a proof is remembered for as long as its time admits it",
        _DPOP,
        _request(ACTIVE, dpop_proof=proof),
        _request(ACTIVE, at=69, dpop_proof=late),
        *(_request("PROOF_INVALID", at=at, dpop_proof=late) for at in (71, 100, 134)),
    )
    other_signature = _HOLDER.proof(_DPOP, pad=1)
    yield _case(
        "a jti of the same key is accepted once",
        _DPOP,
        _request(ACTIVE, dpop_proof=proof),
        _request("PROOF_INVALID", dpop_proof=other_signature),
    )
    yield _case(
        "a proof that is refused is not used",
        _DPOP,
        _request("PROOF_INVALID", dpop_proof=proof, method="POST"),
        _request(ACTIVE, dpop_proof=proof),
    )
