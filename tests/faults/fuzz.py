"""Hostile tokens against a validator and against PyJWT with every option explicit.

For each token: the validator accepts it only if PyJWT does, and then both read the same claims. A token built to be
refused is refused. The validator returns claims or raises its own errors, nothing else.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.hostile_tokens import VECTORS, token_of
from tests.support.token_mint import AUDIENCE, ISSUER, Mint, b64, sign
from token_service.client.config import ForeignIssuer, ValidatorConfig
from token_service.client.sync_validator import SyncTokenValidator
from token_service.errors import InvalidTokenError
from token_service.tokens.claims import VerifiedClaims

_POOL_LIFE = 40_000
"""Tokens made from one pool before the next pool."""
_REQUIRED = ["aud", "exp", "iat", "iss", "jti", "sub"]  # RFC 9068, section 2.2
_OTHER_ISSUER = "https://other.test"
_LARGE = 10 * 2**20
_ANY_CHARACTER = "".join(map(chr, range(0x180))) + "\u2028\ud800\U0001f511"


class Disagreement(AssertionError):  # noqa: N818  # not an error of the program
    """The validator accepted a token or raised an error that it must not."""


@dataclass
class Tally:
    """The counts of a run."""

    tokens: int = 0
    accepted: int = 0
    stricter: int = 0
    """Refused here but accepted by PyJWT, among the compared tokens."""
    compared: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        refused = ", ".join(f"{reason} {count:,}" for reason, count in self.reasons.most_common())
        return (
            f"{self.tokens:,} tokens: {self.accepted:,} accepted by both, refused: {refused}; "
            f"of {self.compared:,} refused tokens tried with PyJWT it accepts {self.stricter:,}"
        )


@dataclass(frozen=True, slots=True)
class Hostile:
    """A token. `refuse`: the validator must refuse it even if PyJWT accepts it."""

    token: Any
    refuse: bool = False


class _Validators:
    """A validator with one issuer and a validator with two: they read a token in different order."""

    def __init__(self, mints: list[Mint], others: list[Mint]) -> None:
        self._stack = ExitStack()
        self._keys = {
            issuer: json.dumps({"keys": [mint.jwk for mint in of]}).encode()
            for issuer, of in ((ISSUER, mints), (_OTHER_ISSUER, others))
        }

    def __enter__(self) -> Self:
        try:
            self.all = [self._start([ISSUER]), self._start([ISSUER, _OTHER_ISSUER])]
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _fetch(self, issuer: str, _url: str, _timeout: float) -> bytes:
        return self._keys[issuer]

    def _start(self, issuers: list[str]) -> SyncTokenValidator:
        foreign = [
            ForeignIssuer(
                issuer=issuer,
                jwks_url="https://unused.test",
                fetch=partial(self._fetch, issuer),
                unknown_key_interval=86400,
            )
            for issuer in issuers
        ]
        # A cache that is constantly replaced, so that the fuzz covers its code.
        config = ValidatorConfig(issuers=foreign, audience=AUDIENCE, cache_capacity=64)
        validator = self._stack.enter_context(SyncTokenValidator(config))
        assert validator.wait_ready(30)
        return validator


class Fuzz:
    """A run determined by its seed, except for keys and the time of day."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.mints = [Mint("ES256"), Mint("RS256"), Mint("EdDSA")]
        self._keys = {mint.jwk["kid"]: (mint.algorithm, mint.key.public_key()) for mint in self.mints}
        self._stranger = Mint("ES256", "stranger")

    def run(self, count: int, *, compare_one_in: int = 50) -> Tally:
        """Try `count` tokens. Raise `Disagreement` on the first violation."""
        tally = Tally()
        with _Validators(self.mints, [self._stranger]) as validators:
            for hostile in self._tokens(count):
                self._try(validators.all[tally.tokens & 1], hostile, tally, compare_one_in)
                tally.tokens += 1
        return tally

    def _try(
        self, validator: SyncTokenValidator, hostile: Hostile, tally: Tally, compare_one_in: int
    ) -> None:
        token = hostile.token
        try:
            claims: Any = validator.validate(token)
        except InvalidTokenError as error:
            tally.reasons[error.reason.name] += 1
            if self.random.randrange(compare_one_in) == 0:
                tally.compared += 1
                tally.stricter += not isinstance(self._by_pyjwt(token), Exception)
            return
        except Exception as error:
            raise Disagreement(f"{type(error).__name__}: {error}: {_short(token)}") from error
        if type(claims) is not VerifiedClaims or hostile.refuse:
            raise Disagreement(f"accepted: {_short(token)}")
        theirs = self._by_pyjwt(token)
        if isinstance(theirs, Exception):
            raise Disagreement(f"accepted, but PyJWT says {theirs!r}: {_short(token)}")
        if theirs != claims.payload or not _says(claims, theirs):
            raise Disagreement(f"read differently by PyJWT: {_short(token)}")
        tally.accepted += 1

    def _by_pyjwt(self, token: Any) -> dict[str, Any] | Exception:
        """Return PyJWT's claims, or the error by which it refuses the token. Any exception is a refusal."""
        try:
            algorithm, key = self._keys[jwt.get_unverified_header(token)["kid"]]
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=0,
                options={
                    "require": _REQUIRED,
                    "verify_signature": True,
                    "verify_exp": True,
                    "verify_nbf": True,
                    "verify_iat": True,
                    "verify_aud": True,
                    "verify_iss": True,
                },
            )
        except Exception as error:  # noqa: BLE001
            return error
        return claims

    # --- tokens ---

    def _tokens(self, count: int) -> Iterator[Hostile]:
        made = 0
        while made < count:
            pool = self._pool()
            yield from pool
            texts = [each.token for each in pool if isinstance(each.token, str) and len(each.token) < 20_000]
            made += len(pool)
            for _ in range(min(_POOL_LIFE, count - made)):
                yield Hostile(self._mutated(texts))
                made += 1

    def _mutated(self, texts: list[str]) -> str:
        chance = self.random
        # Valid tokens come first in the pool; small changes to them test the most.
        text = texts[chance.randrange(30)] if chance.random() < 0.7 else chance.choice(texts)
        for _ in range(chance.choice((0, 1, 1, 1, 1, 2, 3))):
            text = chance.choice(_MUTATIONS)(chance, text, texts)
        return text

    def _pool(self) -> list[Hostile]:
        now = time.time() - 60
        good = [Hostile(mint.token(now, jti=f"good-{n}")) for mint in self.mints for n in range(10)]
        mint = self.random.choice((self.mints[0], self.mints[2]))
        return [
            *good,
            *self._headers(now),
            *self._claims(now, mint),
            *self._payloads(now, mint),
            *self._forms(now, mint),
            *(Hostile(token_of(vector, self.mints[0]), refuse=True) for vector in VECTORS),
        ]

    def _headers(self, now: float) -> Iterator[Hostile]:
        mint = self.mints[0]
        stranger = self._stranger
        kid = mint.jwk["kid"]
        headers: tuple[dict[str, Any], ...] = (
            {"crit": ["exp"]},
            {"crit": []},
            {"crit": ["b64"], "b64": False},
            {"b64": False},
            {"jwk": stranger.jwk},
            {"jwk": mint.jwk},
            {"jku": "https://attacker.test/jwks"},
            {"x5u": "https://attacker.test/chain"},
            {"x5c": ["MIIB"]},
            {"zip": "DEF"},
            {"enc": "A128GCM"},
            {"alg": "none"},
            {"alg": "None"},
            {"alg": "HS256"},
            {"alg": "RS256"},
            {"alg": "es256"},
            {"alg": ["ES256"]},
            {"alg": ...},
            {"typ": "JWT"},
            {"typ": "dpop+jwt"},
            {"typ": None},
            {"typ": ...},
            {"kid": None},
            {"kid": 7},
            {"kid": [kid]},
            {"kid": kid + "\0"},
            {"kid": kid.upper()},
            {"kid": "../../dev/null"},
            {"kid": "' OR 1=1 --"},
            {"kid": self.mints[1].jwk["kid"]},
            {"kid": ...},
        )
        for changes in headers:
            yield Hostile(mint.token(now, header=changes), refuse=True)
            yield Hostile(stranger.token(now, header={"kid": kid, **changes}), refuse=True)
        yield Hostile(stranger.token(now, header={"kid": kid}), refuse=True)
        yield Hostile(stranger.token(now), refuse=True)
        yield Hostile(stranger.token(now, iss=[ISSUER, _OTHER_ISSUER]), refuse=True)
        yield Hostile(mint.token(now, header={"typ": "AT+JWT"}))
        yield Hostile(mint.token(now, header={"typ": "application/at+jwt"}))
        yield Hostile(mint.token(now, header={"cty": "JWT", "x-unknown": [1, {"a": None}]}))
        payload = json.dumps(mint.claims(now)).encode()
        for victim in self.mints:
            public = victim.key.public_key()
            for secret in (
                public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
                public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
                json.dumps(victim.jwk).encode(),
                b"",
            ):
                for alg in ("HS256", victim.algorithm):
                    header = {"alg": alg, "typ": "at+jwt", "kid": victim.jwk["kid"]}
                    yield Hostile(victim.raw(json.dumps(header).encode(), payload, secret), refuse=True)
            header = {"alg": "none", "typ": "at+jwt", "kid": victim.jwk["kid"]}
            for signature in ("", "AA", b64(bytes(64))):
                unsigned = f"{b64(json.dumps(header).encode())}.{b64(payload)}.{signature}"
                yield Hostile(unsigned, refuse=True)
        good = f'"alg":"ES256","typ":"at+jwt","kid":"{kid}"'
        for text in (
            f'{{{good},"alg":"none"}}',
            f'{{"alg":"none",{good}}}',
            f'{{{good},"kid":"{kid}"}}',
            f'{{{good},"cri\\u0074":["exp"]}}',
            f'{{{good},"j\\u0077k":{{}}}}',
            f"\ufeff{{{good}}}",
            f"{{{good}}} x",
            f"{{{good},}}",
            f"[{{{good}}}]",
            "null",
            "",
        ):
            yield Hostile(mint.raw(text.encode(), payload), refuse=True)
        yield Hostile(mint.raw(f"{{{good}}}".encode("utf-16"), payload), refuse=True)

    def _claims(self, now: float, mint: Mint) -> Iterator[Hostile]:
        begin = int(now)
        numbers: tuple[Any, ...] = (
            str(begin + 900), begin + 900.5, 1e30, -1, 0, 2**31, 2**53 + 1, 2**63, 2**64, 2**70, 10**400, True, None, [], {},
            [begin + 900], "NaN", "1e30", begin - 10, begin + 900,
        )  # fmt: skip
        for name in ("exp", "nbf", "iat", "rev", "auth_time"):
            for value in numbers:
                yield Hostile(mint.token(now, **{name: value}))
        texts: tuple[Any, ...] = (
            "",
            7,
            None,
            True,
            [],
            {},
            [""],
            ["x", 7],
            "\0",
            "a" * 5000,
            "\u202e",
            {"a": 1},
            [None],
            1.5,
        )
        for name in ("iss", "sub", "aud", "jti", "client_id", "scope", "sid", "cnf", "auth_ctx", "typ"):
            for value in texts:
                yield Hostile(mint.token(now, **{name: value}))
        for value in (
            ISSUER + "/", ISSUER.upper(), ISSUER + "\0", [ISSUER], _OTHER_ISSUER, f" {ISSUER}", ISSUER.replace("s", "\u017f"),
        ):  # fmt: skip
            yield Hostile(mint.token(now, iss=value), refuse=True)
        for value in (
            "other",
            ["other"],
            [AUDIENCE + "x"],
            [[AUDIENCE]],
            {AUDIENCE: 1},
            AUDIENCE.upper(),
            "ap",
            [],
            "",
        ):
            yield Hostile(mint.token(now, aud=value), refuse=True)
        yield Hostile(mint.token(now, aud=AUDIENCE))
        yield Hostile(mint.token(now, aud=["other", AUDIENCE]))
        omitted: Any = ...
        for name in ("exp", "iss", "sub", "aud", "jti", "client_id", "iat"):
            yield Hostile(mint.token(now, **{name: omitted}), refuse=True)
        yield Hostile(mint.token(now, exp=begin), refuse=True)
        yield Hostile(mint.token(now, nbf=begin + 3600), refuse=True)
        yield Hostile(mint.token(now, iat=begin + 3600), refuse=True)

    def _payloads(self, now: float, mint: Mint) -> Iterator[Hostile]:
        good = json.dumps(mint.claims(now))
        head, later = good[:-1], int(now) + 9000
        refused = [
            f'{head},"exp":{later}}}',
            f'{head},"e\\u0078p":{later}}}',
            f'{head},"sub":"root"}}',
            f'{head},"aud":"{AUDIENCE}"}}',
            f'{head},"x":{{"a":1,"a":2}}}}',
            f'{head},"x":NaN}}',
            f'{head},"x":Infinity}}',
            f'{head},"x":-Infinity}}',
            f'{head},"x":01}}',
            f'{head},"x":1.}}',
            f'{head},"x":0x10}}',
            f"{head},'x':1}}",
            f"{head},}}",
            f"{head}/**/}}",
            f'{head},"x":"\t"}}',
            f'{head},"x":"\\x41"}}',
            f'{head},"x":{"[" * 5000}{"]" * 5000}}}',
            f'{head},"x":{"[" * 2000}',
            '{"a":' * 2000,
            f"{good}{good}",
            f"{good} null",
            f"[{good}]",
            f"\ufeff{good}",
            json.dumps(good),
            "null",
            "true",
            "7",
            "",
            " ",
        ]
        for text in refused:
            yield Hostile(mint.token_of(text.encode()), refuse=True)
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp037"):
            yield Hostile(mint.token_of(good.encode(encoding)), refuse=True)
        for raw in (b"\xff", b"\x80abc", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\0"):
            yield Hostile(mint.token_of(head.encode() + b',"x":"' + raw + b'"}'), refuse=True)
        for text in (
            f" {good}\n",
            f'{head},"x":"\\ud83d\\udd11"}}',
            f'{head},"x":"\\ud800"}}',
            f'{head},"x":1e400}}',
            f'{head},"x":{"9" * 5000}}}',
            f'{head},"x":-0.0}}',
            f'{head},"":1}}',
            f'{head},"__proto__":{{"exp":1}}}}',
            f'{head},"x":{"[" * 20}{"]" * 20}}}',
        ):
            yield Hostile(mint.token_of(text.encode()))

    def _forms(self, now: float, mint: Mint) -> Iterator[Hostile]:
        good = mint.token(now)
        header, payload, signature = good.split(".")
        padded = f"{header}=.{payload}.{signature}"
        raw = padded.rpartition(".")[0].encode()
        for token in (
            "", ".", "..", "...", "....", "a.b.c", f"{header}.{payload}", f"{header}.{payload}.", f".{payload}.{signature}",
            f"{header}..{signature}", f"{good}.", f".{good}", f"{good}.{signature}", f"{header}.{payload}.{payload}.{signature}",
            f"{good}=", f"{good}==", padded, f"{padded.rpartition('.')[0]}.{b64(sign(mint.key, raw))}", f" {good}", f"{good} ",
            f"{good}\n", f"{good}\0", f"Bearer {good}", good.replace(".", "\u3002"), good.upper(), good.swapcase(), good * 2,
            f"{good},{good}", json.dumps({"protected": header, "payload": payload, "signature": signature}),
            f"{header}.{payload}.{payload}.{payload}.{signature}", "\ud800", "\U0001f511" * 50, "." * 10_000,
        ):  # fmt: skip
            yield Hostile(token, refuse=True)
        for wrong in (
            None,
            7,
            1.5,
            True,
            b"",
            good.encode(),
            bytearray(good.encode()),
            [],
            [good],
            {},
            {good},
            object(),
        ):
            yield Hostile(wrong, refuse=True)
        yield Hostile("e" * _LARGE, refuse=True)
        yield Hostile(f"{header}.{'A' * _LARGE}.{signature}", refuse=True)
        yield Hostile(mint.token(now, x="x" * 20_000), refuse=True)
        yield Hostile(mint.token(now, x="x" * 8_000))


def run_one(seed: int, count: int) -> str:
    """Run in its own process and return the counts as text."""
    return str(Fuzz(seed).run(count))


def _says(claims: VerifiedClaims, payload: dict[str, Any]) -> bool:
    """Return whether the attributes of `claims` match a payload."""
    audience, scope = payload["aud"], payload.get("scope", "")
    return (
        claims.issuer == payload["iss"]
        and claims.subject == payload["sub"]
        and claims.audience == ((audience,) if isinstance(audience, str) else tuple(audience))
        and claims.scopes == set(scope.split(" ") if scope else ())
        and claims.token_id == payload["jti"]
        and claims.session_id == payload.get("sid", "")
        and claims.client_id == (payload.get("client_id") or payload.get("azp", ""))
        and claims.revision == payload.get("rev")
        and (claims.issue_time, claims.not_before, claims.expire_time)
        == (payload["iat"], payload.get("nbf", 0), payload["exp"])
    )


def _short(token: Any) -> str:
    text = repr(token)
    return text if len(text) < 4000 else f"{text[:2000]} … {text[-2000:]}"


# --- changes to a text ---

_Mutation = Callable[[random.Random, str, list[str]], str]


def _flip(chance: random.Random, text: str, texts: list[str]) -> str:
    if not text:
        return text
    at = chance.randrange(len(text))
    return f"{text[:at]}{chr(ord(text[at]) ^ (1 << chance.randrange(8)))}{text[at + 1 :]}"


def _replace(chance: random.Random, text: str, texts: list[str]) -> str:
    at = chance.randrange(len(text) + 1)
    return f"{text[:at]}{chance.choice(_ANY_CHARACTER)}{text[at + chance.randrange(2) :]}"


def _cut(chance: random.Random, text: str, texts: list[str]) -> str:
    begin, end = sorted((chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)))
    return text[:begin] + text[min(end, begin + chance.choice((1, 2, 3, 4, 40, 4000))) :]


def _double(chance: random.Random, text: str, texts: list[str]) -> str:
    begin = chance.randrange(len(text) + 1)
    end = begin + chance.choice((1, 2, 4, 64))
    return text[:end] + text[begin:end] + text[end:]


def _swap_parts(chance: random.Random, text: str, texts: list[str]) -> str:
    parts, others = text.split("."), chance.choice(texts).split(".")
    at = chance.randrange(3)
    if at < len(parts) and at < len(others):
        parts[at] = others[at]
    return ".".join(parts)


def _reorder_parts(chance: random.Random, text: str, texts: list[str]) -> str:
    parts = text.split(".")
    chance.shuffle(parts)
    return ".".join(parts)


def _pad(chance: random.Random, text: str, texts: list[str]) -> str:
    parts = text.split(".")
    at = chance.randrange(len(parts))
    parts[at] += chance.choice(("=", "==", "A", "AA", "\n", "\r\n", " ", "-", "_", "+", "/", "."))
    return ".".join(parts)


def _trailing_bits(chance: random.Random, text: str, texts: list[str]) -> str:
    """Replace the last character by one that decodes to the same bytes where unused bits exist."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    parts = text.split(".")
    at = chance.randrange(len(parts))
    if parts[at] and parts[at][-1] in alphabet:
        parts[at] = (
            parts[at][:-1] + alphabet[alphabet.index(parts[at][-1]) ^ chance.choice((1, 2, 3, 4, 8, 15))]
        )
    return ".".join(parts)


def _other_alphabet(chance: random.Random, text: str, texts: list[str]) -> str:
    return text.replace("-", "+").replace("_", "/")


_MUTATIONS: tuple[_Mutation, ...] = (
    _flip, _flip, _flip, _replace, _cut, _double, _swap_parts, _swap_parts, _reorder_parts, _pad, _trailing_bits, _other_alphabet,
)  # fmt: skip
