from __future__ import annotations

import asyncio
import http.server
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.both_validators import AnyValidator
from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from tests.support.manual_clock import ManualClock
from tests.support.token_mint import AUDIENCE, Mint
from tests.unit.client.conftest import config_for
from token_service.client._internal.keys import MAX_JWKS_BYTES, parse_jwks
from token_service.client.config import Backoff, ForeignIssuer, ServiceIssuer, ValidatorConfig
from token_service.errors import InvalidReason, InvalidTokenError, ReplicaStaleError
from token_service.tokens.claims import TokenKind

FOREIGN = "https://foreign.test"
WEAK_EXPONENT = "not an odd number of 3 or more with at most 64 bits"


class KeyServer:
    """An HTTP server with answers chosen by the test."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        self.headers: dict[str, str] = {}
        self.requests: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/jwks"

    def publish(self, *jwks: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": jwks}).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    server = KeyServer()
    yield server
    server.close()


def foreign(keys: KeyServer, **changes: Any) -> ForeignIssuer:
    known = {
        "refresh_interval": 1.0,
        "unknown_key_interval": 0.0,
        "timeout": 60.0,
        "retry": Backoff(initial=0.02, longest=0.1),
        **changes,
    }
    return ForeignIssuer(issuer=FOREIGN, jwks_url=keys.url, **known)


def only(keys: KeyServer, **changes: Any) -> ValidatorConfig:
    return ValidatorConfig(issuers=[foreign(keys, **changes)], audience=AUDIENCE)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
async def test_tokens_of_a_foreign_issuer_are_validated(keys: KeyServer, kind: str, algorithm: str) -> None:
    mint = Mint(algorithm, issuer=FOREIGN)
    keys.publish(mint.jwk)
    async with AnyValidator(kind, only(keys)) as validator:
        assert await validator.wait_ready()
        claims = await validator.validate(mint.token(time.time()), required_scopes=["read"])
        assert claims.issuer == FOREIGN
        assert (await validator.validate(mint.token(time.time(), iss=FOREIGN))).issuer == FOREIGN
        with pytest.raises(InvalidTokenError):
            await validator.validate(Mint(algorithm, "other", FOREIGN).token(time.time()))


async def test_an_unknown_key_is_fetched(keys: KeyServer, kind: str) -> None:
    first, second = Mint("ES256", issuer=FOREIGN), Mint("ES256", "second", FOREIGN)
    keys.publish(first.jwk)
    async with AnyValidator(kind, only(keys, refresh_interval=3600)) as validator:
        assert await validator.wait_ready()
        keys.publish(first.jwk, second.jwk)
        await validator.validate(second.token(time.time()))
        assert len(keys.requests) == 2


async def test_a_key_published_after_the_fetch_under_way_began_is_found(kind: str) -> None:
    mint = Mint("ES256", issuer=FOREIGN)
    read, answer = threading.Event(), threading.Event()
    published: list[dict[str, Any]] = [Mint("ES256", "second", FOREIGN).jwk]

    def fetch(url: str, timeout: float) -> bytes:
        body = json.dumps({"keys": published}).encode()
        read.set()
        answer.wait(60)
        return body

    issuer = ForeignIssuer(issuer=FOREIGN, jwks_url="https://foreign.test/jwks", fetch=fetch)
    async with AnyValidator(kind, ValidatorConfig(issuers=[issuer], audience=AUDIENCE)) as validator:
        await eventually(read.is_set)
        published.append(mint.jwk)
        validation = asyncio.create_task(validator.validate(mint.token(time.time())))
        await asyncio.sleep(0.1)  # it usually joins the running fetch; it must be accepted in any case
        answer.set()
        assert (await validation).issuer == FOREIGN


async def test_fetches_for_unknown_keys_are_limited(keys: KeyServer, kind: str) -> None:
    mint = Mint("ES256", issuer=FOREIGN)
    keys.publish(mint.jwk)
    async with AnyValidator(kind, only(keys, refresh_interval=3600, unknown_key_interval=3600)) as validator:
        assert await validator.wait_ready()
        for number in range(30):
            with pytest.raises(InvalidTokenError) as caught:
                await validator.validate(mint.token(time.time(), {"kid": f"made-up-{number}"}))
            assert caught.value.reason is InvalidReason.UNKNOWN_KEY
        assert len(keys.requests) <= 2


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, b'{"keys":[]}', {}),
        (200, b'{"keys":{}}', {}),
        (200, b"[]", {}),
        (200, b"<html>", {}),
        (200, b"", {}),
        (200, b'{"keys":[{"kty":"oct","kid":"x","k":"AAAA"}]}', {}),
        (200, b'{"keys":["x",1,null]}', {}),
        (200, b'{"keys":[],"keys":[{"kty":"EC"}]}', {}),
        (200, b'{"keys":["' + b"x" * MAX_JWKS_BYTES + b'"]}', {}),
        (404, b"", {}),
        (500, b"", {}),
        (302, b"", {"Location": "http://127.0.0.1:1/elsewhere"}),
    ],
    ids=range(12),
)
async def test_last_valid_key_set_is_kept(
    keys: KeyServer, kind: str, status: int, body: bytes, headers: dict[str, str]
) -> None:
    mint = Mint("ES256", issuer=FOREIGN)
    keys.publish(mint.jwk)
    async with AnyValidator(kind, only(keys)) as validator:
        assert await validator.wait_ready()
        keys.status, keys.body, keys.headers = status, body, headers
        seen = len(keys.requests)
        await eventually(lambda: len(keys.requests) >= seen + 2)
        await validator.validate(mint.token(time.time()))
        assert validator.counters.key_refresh_failures + validator.counters.key_sets_refused >= 1


async def test_keys_are_fetched_once_an_unavailable_server_returns(keys: KeyServer, kind: str) -> None:
    mint = Mint("ES256", issuer=FOREIGN)
    keys.status = 503
    async with AnyValidator(kind, only(keys)) as validator:
        with pytest.raises(ReplicaStaleError):
            await validator.validate(mint.token(time.time()))
        keys.status = 200
        keys.publish(mint.jwk)
        assert await validator.wait_ready()
        await validator.validate(mint.token(time.time()))


async def test_the_same_key_set_again_keeps_the_cache(keys: KeyServer, kind: str) -> None:
    mint = Mint("ES256", issuer=FOREIGN)
    keys.publish(mint.jwk)
    async with AnyValidator(kind, only(keys)) as validator:
        assert await validator.wait_ready()
        token = mint.token(time.time())
        await validator.validate(token)
        seen = len(keys.requests)
        await eventually(lambda: len(keys.requests) >= seen + 1)
        await validator.validate(token)
        assert validator.counters.verified == 1
        assert validator.counters.key_sets == 1


async def test_caller_can_supply_its_own_fetch(kind: str) -> None:
    mint = Mint("ES256", issuer=FOREIGN)
    asked: list[tuple[str, float]] = []

    def fetch(url: str, timeout: float) -> bytes:
        asked.append((url, timeout))
        if len(asked) == 1:
            raise RuntimeError("a defect in it is survived")
        return json.dumps({"keys": [mint.jwk]}).encode()

    issuer = ForeignIssuer(
        issuer=FOREIGN,
        jwks_url="vault:keys",
        fetch=fetch,
        timeout=2.0,
        retry=Backoff(initial=0.01, longest=0.02),
    )
    async with AnyValidator(kind, ValidatorConfig(issuers=[issuer], audience=AUDIENCE)) as validator:
        assert await validator.wait_ready()
        await validator.validate(mint.token(time.time()))
        assert asked[0] == ("vault:keys", 2.0)


async def test_plain_access_tokens_are_accepted_where_configured(keys: KeyServer, kind: str) -> None:
    mint = Mint("ES256", issuer=FOREIGN)
    keys.publish(mint.jwk)
    token = mint.token(time.time(), {"typ": "JWT"}, client_id=..., jti=..., azp="app", rev=...)
    async with AnyValidator(kind, only(keys, plain_kind=TokenKind.ACCESS)) as validator:
        assert await validator.wait_ready()
        assert (await validator.validate(token)).client_id == "app"
    async with AnyValidator(kind, only(keys)) as validator:
        assert await validator.wait_ready()
        with pytest.raises(InvalidTokenError) as caught:
            await validator.validate(token)
        assert caught.value.reason is InvalidReason.WRONG_TYPE


async def test_several_issuers_keep_to_themselves(
    service: FakeTokenService, keys: KeyServer, kind: str
) -> None:
    theirs = Mint("ES256", "foreign", FOREIGN)
    keys.publish(theirs.jwk)
    own = config_for(service).issuers[0]
    assert isinstance(own, ServiceIssuer)
    config = ValidatorConfig(issuers=[own, foreign(keys)], audience=AUDIENCE)
    async with AnyValidator(kind, config) as validator:
        assert await validator.wait_ready()
        now = time.time()
        mine, foreign_token = service.mint.token(now, jti="same"), theirs.token(now, jti="same")
        assert (await validator.validate(mine)).issuer == service.issuer
        assert (await validator.validate(foreign_token)).issuer == FOREIGN
        service.revoke(token_id="same")
        service.revoke(subject="user-1")
        service.revoke(everything=True)
        await eventually(lambda: validator.counters.revocations == 3)
        await validator.validate(foreign_token)  # the log covers only tokens of the token service
        with pytest.raises(InvalidTokenError):
            await validator.validate(mine)
        for forged in (theirs.token(now, iss=service.issuer), service.mint.token(now, iss=FOREIGN)):
            with pytest.raises(InvalidTokenError):
                await validator.validate(forged)
        await asyncio.to_thread(service.stop)
        await validator.validate(foreign_token)  # an unavailable token service does not affect other issuers
        service.start()


async def test_two_key_types_with_one_kid_both_verify(keys: KeyServer, kind: str) -> None:
    rsa, ec = Mint("RS256", issuer=FOREIGN), Mint("ES256", issuer=FOREIGN)
    keys.publish({**rsa.jwk, "kid": "k"}, {**ec.jwk, "kid": "k"}, {**rsa.jwk, "kid": "k"})
    async with AnyValidator(kind, only(keys)) as validator:
        assert await validator.wait_ready()
        for mint in (rsa, ec):
            assert (await validator.validate(mint.token(time.time(), {"kid": "k"}))).key_id == "k"
        with pytest.raises(InvalidTokenError) as caught:
            await validator.validate(Mint("RS256", "other", FOREIGN).token(time.time(), {"kid": "k"}))
        assert caught.value.reason is InvalidReason.BAD_SIGNATURE


async def test_unusable_keys_are_logged_once(
    keys: KeyServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    mint = Mint("RS256", issuer=FOREIGN)
    keys.publish({**mint.jwk, "kid": "one", "e": "AQ"}, {**mint.jwk, "kid": "box", "use": "enc"})
    with caplog.at_level(logging.INFO, "token_service.client._internal.keys"):
        async with AnyValidator(kind, only(keys)) as validator:
            await eventually(lambda: validator.counters.key_sets_refused >= 3)
            for _ in range(2):
                with pytest.raises(ReplicaStaleError):
                    await validator.validate(mint.token(time.time(), {"kid": "one"}))
            keys.publish(mint.jwk)
            assert await validator.wait_ready()
    said = [
        (r.levelname, r.getMessage())
        for r in caplog.records
        if r.name == "token_service.client._internal.keys"
    ]
    assert said == [
        ("WARNING", f"key 'one' of {FOREIGN} verifies no tokens here: its exponent is {WEAK_EXPONENT}"),
        ("INFO", f"key 'box' of {FOREIGN} verifies no tokens here: use is not sig"),
    ]


async def test_times_with_a_fraction_are_compared_exactly(keys: KeyServer, kind: str) -> None:
    mint = Mint("ES256", issuer=FOREIGN)
    keys.publish(mint.jwk)
    clock = ManualClock(1_800_000_000.0)
    async with AnyValidator(kind, only(keys), clock) as validator:
        assert await validator.wait_ready()
        token = mint.token(
            clock.wall, iat=clock.wall + 5.25, nbf=clock.wall + 5.25, exp=clock.wall + 20.75, jti="x"
        )

        async def verdict() -> InvalidReason | None:
            try:
                claims = await validator.validate(token)
            except InvalidTokenError as error:
                return error.reason
            assert (claims.not_before, claims.expire_time) == (1_800_000_005.25, 1_800_000_020.75)
            return None

        for advance, expected in (
            (0.0, InvalidReason.NOT_YET_VALID),  # a token may come 5 seconds early, and this one comes 5.25
            (0.2, InvalidReason.NOT_YET_VALID),
            (0.1, None),
            (20.2, None),
            (0.2, None),
            (0.1, InvalidReason.EXPIRED),
        ):
            clock.advance(advance)
            for _ in range(2):  # the second time from the cache
                assert await verdict() is expected
        whole = mint.token(clock.wall, exp=float(int(clock.wall) + 900), iat=1.8e9)
        claims = await validator.validate(whole)
        assert type(claims.expire_time) is type(claims.issue_time) is int


def test_a_key_set_is_read_strictly() -> None:
    assert parse_jwks(b'{"keys":[{"kid":"a"},7]}') == [{"kid": "a"}]
    for bad in (
        b"",
        b"{}",
        b'{"keys":null}',
        b'{"keys":[]}',
        b'{"keys":[{}],"keys":[{}]}',
        b'\xef\xbb\xbf{"keys":[{}]}',
    ):
        with pytest.raises(ValueError):
            parse_jwks(bad)
