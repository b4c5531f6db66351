from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from tests.support.both_validators import AnyValidator
from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from tests.support.hostile_tokens import VECTORS, token_of
from tests.support.manual_clock import ManualClock
from tests.support.token_mint import AUDIENCE, Mint
from tests.unit.client.conftest import config_for
from token_service.client.config import Freshness, ServiceIssuer, ValidatorConfig, WhenStale
from token_service.client.sync_validator import SyncTokenValidator
from token_service.client.validator import TokenValidator
from token_service.errors import ConfigurationError, InvalidReason, InvalidTokenError, ReplicaStaleError
from token_service.tokens.claims import TokenKind
from token_service.v1.token_service_pb2 import Revocation

_R = InvalidReason


async def reason_of(validator: AnyValidator, token: str, **options: object) -> InvalidReason:
    with pytest.raises(InvalidTokenError) as caught:
        await validator.validate(token, **options)  # type: ignore[arg-type]
    return caught.value.reason


async def test_good_token_is_validated_from_memory(service: FakeTokenService, kind: str) -> None:
    async with AnyValidator(kind, config_for(service)) as validator:
        assert await validator.wait_ready()
        token = service.mint.token(time.time())
        claims = await validator.validate(token, required_scopes=["read"])
        assert claims.subject == "user-1"
        assert await validator.validate(token, required_scopes=["write"]) is claims
        assert await reason_of(validator, token, required_scopes=["admin"]) is _R.INSUFFICIENT_SCOPE
        assert await reason_of(validator, token, audience="other") is _R.WRONG_AUDIENCE
        assert validator.counters.verified == 1
        assert validator.counters.rejected == {"INSUFFICIENT_SCOPE": 1, "WRONG_AUDIENCE": 1}
        assert service.remote_calls == []


@pytest.mark.parametrize("vector", VECTORS[::7], ids=lambda vector: vector["name"])
async def test_hostile_tokens_are_rejected_with_their_reason(
    service: FakeTokenService, kind: str, vector: dict[str, str]
) -> None:
    async with AnyValidator(kind, config_for(service)) as validator:
        assert await validator.wait_ready()
        reason = await reason_of(validator, token_of(vector, service.mint), required_scopes=["read"])
        # Valid vectors are valid in 2023 only.
        assert reason == vector["reason"] or reason is _R.EXPIRED


@pytest.mark.parametrize("wrong", [None, b"a.b.c", 7, [], {}], ids=repr)
async def test_token_that_is_no_text_is_malformed(service: FakeTokenService, kind: str, wrong: str) -> None:
    async with AnyValidator(kind, config_for(service)) as validator:
        assert await reason_of(validator, wrong) is _R.MALFORMED


@pytest.mark.parametrize(
    "target", ["token_id", "known token_id", "session_id", "subject", "client_id", "key_id", "everything"]
)
async def test_revocation_hits_its_target_only(service: FakeTokenService, kind: str, target: str) -> None:
    now = time.time()
    names: dict[str, Any] = {"sub": "alice", "sid": "session-a", "client_id": "app", "jti": "token-a"}
    hit = service.mint.token(now, **names)
    spared = service.mint.token(now, sub="bob", sid="session-b", client_id="cli", jti="token-b")
    async with AnyValidator(kind, config_for(service)) as validator:
        assert await validator.wait_ready()
        await validator.validate(hit)
        await validator.validate(spared)
        if target == "token_id":
            service.revoke(token_id="token-a")
        elif target == "known token_id":
            service.revoke(token_id="token-a", expiry=int(now) + 900)
        elif target == "key_id":
            service.revoke(key_id=service.mint.jwk["kid"])
        elif target == "everything":
            service.revoke(everything=True)
        else:
            values: dict[str, Any] = {"session_id": "session-a", "subject": "alice", "client_id": "app"}
            service.revoke(**{target: values[target]})
        await eventually(lambda: validator.counters.revocations == 1)
        assert await reason_of(validator, hit) is _R.REVOKED
        if target in {"key_id", "everything"}:
            assert await reason_of(validator, spared) is _R.REVOKED
        else:
            await validator.validate(spared)
        if target in {"subject", "client_id", "everything"}:
            await validator.validate(service.mint.token(now, **{**names, "jti": "later", "rev": 1}))


async def test_expiry_and_not_before_are_checked_on_every_hit_with_leeway(
    service: FakeTokenService, kind: str
) -> None:
    clock = ManualClock(time.time())
    async with AnyValidator(kind, config_for(service, leeway=2.0), clock) as validator:
        assert await validator.wait_ready()
        now = clock.wall
        soon = service.mint.token(now, nbf=int(now) + 1)
        late = service.mint.token(now - 10, exp=int(now))
        await validator.validate(soon)
        await validator.validate(late)
        assert await reason_of(validator, service.mint.token(now, nbf=int(now) + 60)) is _R.NOT_YET_VALID
        # The clock of the issuer may be ahead.
        await validator.validate(service.mint.token(now + 3))
        assert await reason_of(validator, service.mint.token(now - 60, exp=int(now) - 5)) is _R.EXPIRED
        clock.advance(2.05)
        assert await reason_of(validator, late) is _R.EXPIRED


async def test_a_cached_token_is_verified_again_when_the_keys_change(
    service: FakeTokenService, kind: str
) -> None:
    other = Mint("ES256", "other")
    async with AnyValidator(kind, config_for(service)) as validator:
        assert await validator.wait_ready()
        token = service.mint.token(time.time())
        await validator.validate(token)
        service.rotate_keys(service.mint.jwk, other.jwk)
        await eventually(lambda: validator.counters.key_sets == 2)
        await validator.validate(token)
        await validator.validate(other.token(time.time()))
        service.rotate_keys(other.jwk)
        await eventually(lambda: validator.counters.key_sets == 3)
        assert await reason_of(validator, token) is _R.UNKNOWN_KEY


async def test_an_empty_key_set_is_not_taken(service: FakeTokenService, kind: str) -> None:
    async with AnyValidator(kind, config_for(service)) as validator:
        assert await validator.wait_ready()
        service.rotate_keys()
        await eventually(lambda: validator.counters.key_sets_refused == 1)
        await validator.validate(service.mint.token(time.time()))


async def test_an_unknown_key_is_asked_for_once_and_not_more_often_than_allowed(
    service: FakeTokenService, kind: str
) -> None:
    async with AnyValidator(kind, config_for(service, key_refresh_interval=60.0)) as validator:
        assert await validator.wait_ready()
        service.hold_streams = True
        other = Mint("ES256", "other")
        service.rotate_keys(service.mint.jwk, other.jwk)
        results = await asyncio.gather(*(validator.validate(other.token(time.time())) for _ in range(20)))
        assert len(results) == 20
        assert service.key_set_calls == 1
        for number in range(50):
            token = other.token(time.time(), {"kid": f"made-up-{number}"})
            assert await reason_of(validator, token) is _R.UNKNOWN_KEY
        assert service.key_set_calls == 1


async def test_unknown_key_is_no_rejection_while_the_service_is_unavailable(
    service: FakeTokenService, kind: str
) -> None:
    clock = ManualClock(time.time())
    async with AnyValidator(kind, config_for(service, key_refresh_interval=5.0), clock) as validator:
        assert await validator.wait_ready()
        service.refuse_unary = True
        token = Mint("ES256", "other").token(clock.wall)
        for _ in range(3):  # asked once, as often as allowed
            with pytest.raises(ReplicaStaleError, match="no key with this kid"):
                await validator.validate(token)
        assert service.key_set_calls == 1
        service.refuse_unary = False
        clock.advance(5.0)
        assert await reason_of(validator, token) is _R.UNKNOWN_KEY
        assert await reason_of(validator, token) is _R.UNKNOWN_KEY
        assert service.key_set_calls == 2


async def test_missing_keys_are_no_rejection(service: FakeTokenService, kind: str) -> None:
    service.refuse_streams = service.refuse_unary = True
    async with AnyValidator(kind, config_for(service)) as validator:
        with pytest.raises(ReplicaStaleError, match="no key set"):
            await validator.validate(service.mint.token(time.time()))
        service.refuse_streams = service.refuse_unary = False
        assert await validator.wait_ready()
        await validator.validate(service.mint.token(time.time()))


async def test_stale_validator_asks_the_service(service: FakeTokenService, kind: str) -> None:
    service.refuse_probes = True
    clock = ManualClock(time.time())
    async with AnyValidator(kind, config_for(service), clock) as validator:
        good = service.mint.token(time.time(), jti="good")
        await eventually(lambda: validator.counters.key_sets == 1)
        await validator.validate(good, required_scopes=["read"])
        await validator.validate(good, required_scopes=["read"])
        assert len(service.remote_calls) == 1  # the answer proves freshness as long as any proof
        call = service.remote_calls[0]
        assert (call.audience, list(call.required_scopes)) == (AUDIENCE, ["read"])
        service.hold_streams = True
        service.revoke(token_id="good")
        clock.advance(9.0)
        assert await reason_of(validator, good) is _R.REVOKED
        assert len(service.remote_calls) == 2
        assert validator.counters.remote_failures == 0


async def test_stale_validator_without_an_answer_rejects(service: FakeTokenService, kind: str) -> None:
    async with AnyValidator(kind, config_for(service, bound=0.4)) as validator:
        assert await validator.wait_ready()
        token = service.mint.token(time.time())
        await validator.validate(token)
        service.refuse_probes = service.refuse_unary = True

        async def stale() -> bool:
            try:
                await validator.validate(token)
            except ReplicaStaleError:
                return True
            return False

        await eventually(stale)
        assert validator.counters.rejected_stale >= 1
        assert validator.counters.remote_failures >= 1
        service.refuse_probes = service.refuse_unary = False
        await eventually(lambda: validator.is_fresh)
        await validator.validate(token)


async def test_stale_validator_with_reject_sends_no_request(service: FakeTokenService, kind: str) -> None:
    service.refuse_probes = True
    async with AnyValidator(kind, config_for(service, when_stale=(WhenStale.REJECT,))) as validator:
        await eventually(lambda: validator.counters.key_sets == 1)
        with pytest.raises(ReplicaStaleError):
            await validator.validate(service.mint.token(time.time()))
        assert service.remote_calls == []


async def test_stale_accept_ends_after_its_limit(service: FakeTokenService, kind: str) -> None:
    config = config_for(service, when_stale=(WhenStale.REMOTE, WhenStale.ACCEPT), accept_for=20.0)
    clock = ManualClock(time.time())
    async with AnyValidator(kind, config, clock) as validator:
        token = service.mint.token(clock.wall)
        assert await validator.wait_ready()
        service.refuse_probes = service.refuse_unary = True
        clock.advance(9.0)
        assert not validator.is_fresh
        await validator.validate(token)
        assert validator.counters.accepted_stale == 1
        clock.advance(10.9)
        await validator.validate(token)
        assert validator.counters.accepted_stale == 2
        clock.advance(0.2)
        with pytest.raises(ReplicaStaleError):
            await validator.validate(token)


async def test_shared_answer_ages_from_its_first_question(service: FakeTokenService, kind: str) -> None:
    clock = ManualClock(time.time())
    async with AnyValidator(kind, config_for(service, when_stale=(WhenStale.REMOTE,)), clock) as validator:
        token = service.mint.token(clock.wall)
        assert await validator.wait_ready()
        service.refuse_probes = service.hold_streams = True
        clock.advance(9.0)
        service.remote_gate.clear()
        first = asyncio.create_task(reason_of(validator, token))
        await eventually(lambda: len(service.remote_calls) == 1)
        clock.advance(8.0)
        joined = asyncio.create_task(reason_of(validator, token))
        await eventually(lambda: validator.counters.unproven == 2)
        service.revoke(subject="user-1")
        clock.advance(2.0)  # the answer is 10 s old now, but only 2 s have passed since the second one came
        service.remote_gate.set()
        assert [await first, await joined] == [_R.REVOKED, _R.REVOKED]


async def test_a_shared_answer_holds_for_s_from_its_question(service: FakeTokenService, kind: str) -> None:
    clock = ManualClock(time.time())
    async with AnyValidator(kind, config_for(service, when_stale=(WhenStale.REMOTE,)), clock) as validator:
        token = service.mint.token(clock.wall)
        assert await validator.wait_ready()
        service.refuse_probes = service.hold_streams = True
        clock.advance(9.0)
        service.remote_gate.clear()
        first = asyncio.create_task(validator.validate(token))
        await eventually(lambda: len(service.remote_calls) == 1)
        clock.advance(6.0)
        joined = asyncio.create_task(validator.validate(token))
        await eventually(lambda: validator.counters.unproven == 2)
        service.remote_gate.set()
        await asyncio.gather(first, joined)
        calls = len(service.remote_calls)
        clock.advance(2.9)
        await validator.validate(token)
        assert len(service.remote_calls) == calls
        service.revoke(subject="user-1")
        clock.advance(0.1)
        assert await reason_of(validator, token) is _R.REVOKED


async def test_revocation_that_arrives_during_an_unanswered_call_is_enforced(
    service: FakeTokenService, kind: str
) -> None:
    config = config_for(service, when_stale=(WhenStale.REMOTE, WhenStale.ACCEPT), accept_for=600.0)
    clock = ManualClock(time.time())
    async with AnyValidator(kind, config, clock) as validator:
        token = service.mint.token(clock.wall)
        assert await validator.wait_ready()
        service.refuse_probes = True
        clock.advance(9.0)
        service.remote_gate.clear()
        validation = asyncio.create_task(reason_of(validator, token))
        await eventually(lambda: len(service.remote_calls) == 1)
        service.revoke(subject="user-1")
        await eventually(lambda: validator.counters.revocations == 1)
        service.stop()  # the call gets no answer
        service.remote_gate.set()
        assert await validation is _R.REVOKED


async def test_accept_needs_a_proof_to_count_from(service: FakeTokenService, kind: str) -> None:
    service.refuse_probes = True
    async with AnyValidator(kind, config_for(service, when_stale=(WhenStale.ACCEPT,))) as validator:
        await eventually(lambda: validator.counters.key_sets == 1)
        with pytest.raises(ReplicaStaleError):
            await validator.validate(service.mint.token(time.time()))


async def test_known_revocation_is_enforced_however_stale(service: FakeTokenService, kind: str) -> None:
    config = config_for(service, bound=0.3, when_stale=(WhenStale.ACCEPT,))
    async with AnyValidator(kind, config) as validator:
        assert await validator.wait_ready()
        token = service.mint.token(time.time(), jti="gone")
        service.revoke(token_id="gone")
        await eventually(lambda: validator.counters.revocations == 1)
        service.refuse_probes = service.refuse_unary = True
        await eventually(lambda: not validator.is_fresh)
        assert await reason_of(validator, token) is _R.REVOKED


async def test_equal_questions_share_one_remote_call(service: FakeTokenService, kind: str) -> None:
    service.refuse_probes = True
    service.remote_gate.clear()
    clock = ManualClock(time.time())
    async with AnyValidator(kind, config_for(service), clock) as validator:
        await eventually(lambda: validator.counters.key_sets == 1)
        token = service.mint.token(clock.wall)
        asking = [asyncio.ensure_future(validator.validate(token)) for _ in range(5)]
        await eventually(lambda: service.remote_calls)
        service.remote_gate.set()
        await asyncio.gather(*asking)
        assert len(service.remote_calls) == 1


async def test_remote_calls_are_bounded(service: FakeTokenService, kind: str) -> None:
    service.refuse_probes = True
    service.remote_gate.clear()
    async with AnyValidator(kind, config_for(service, max_remote_calls=2)) as validator:
        await eventually(lambda: validator.counters.key_sets == 1)
        now = time.time()
        asking = [asyncio.ensure_future(validator.validate(service.mint.token(now))) for _ in range(5)]
        await eventually(lambda: sum(each.done() for each in asking) == 3)
        service.remote_gate.set()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert sum(isinstance(result, ReplicaStaleError) for result in results) == 3
        assert len(service.remote_calls) == 2


async def test_reconnects_after_every_end_and_resumes(service: FakeTokenService, kind: str) -> None:
    async with AnyValidator(kind, config_for(service)) as validator:
        assert await validator.wait_ready()
        for round_ in range(3):
            service.end_streams()
            service.revoke(token_id=f"while-away-{round_}")

            def arrived(count: int = round_ + 1) -> bool:
                return validator.counters.revocations == count

            await eventually(arrived)
        assert validator.counters.resets == 1
        cursors = [request.cursor for request in service.stream_requests]
        assert cursors[0] == ""
        assert all(cursor.startswith(service.epoch) for cursor in cursors[1:])


async def test_validator_recovers_when_the_service_is_back(service: FakeTokenService, kind: str) -> None:
    async with AnyValidator(kind, config_for(service, bound=0.5)) as validator:
        assert await validator.wait_ready()
        await asyncio.to_thread(service.stop)
        await eventually(lambda: not validator.is_fresh)
        service.revoke(token_id="while-down")
        await asyncio.to_thread(service.start)
        await eventually(lambda: validator.is_fresh)
        token = service.mint.token(time.time(), jti="while-down")
        assert await reason_of(validator, token) is _R.REVOKED


async def test_a_compacted_cursor_gets_a_snapshot(service: FakeTokenService, kind: str) -> None:
    async with AnyValidator(kind, config_for(service)) as validator:
        assert await validator.wait_ready()
        service.refuse_streams = True
        service.end_streams()
        await eventually(lambda: validator.counters.stream_ends["STORE_UNAVAILABLE"] > 0)
        for number in range(5):
            service.revoke(token_id=f"id-{number}")
        service.compacted = 3
        service.refuse_streams = False
        await eventually(lambda: validator.counters.resets == 2)
        token = service.mint.token(time.time(), jti="id-1")
        assert await reason_of(validator, token) is _R.REVOKED


async def test_a_gap_is_never_skipped(
    service: FakeTokenService, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with AnyValidator(kind, config_for(service)) as validator:
        assert await validator.wait_ready()
        with caplog.at_level(logging.ERROR), service.changing():
            service.log.append(Revocation(sequence=9, token_id="x"))
        service.changed()
        await eventually(lambda: validator.counters.stream_ends["PROTOCOL"] > 0)


async def test_silent_stream_is_replaced(service: FakeTokenService, kind: str) -> None:
    async with AnyValidator(kind, config_for(service, bound=0.5, stall_timeout=0.3)) as validator:
        assert await validator.wait_ready()
        service.hold_streams = True
        service.revoke(token_id="unheard")
        streams = validator.counters.streams
        await eventually(lambda: validator.counters.streams > streams)
        service.hold_streams = False
        await eventually(lambda: validator.counters.revocations == 1)
        assert await reason_of(validator, service.mint.token(time.time(), jti="unheard")) is _R.REVOKED


async def test_validator_confirms_applied_entries(service: FakeTokenService, kind: str) -> None:
    async with AnyValidator(kind, config_for(service, subscriber_id="gateway-1")) as validator:
        assert await validator.wait_ready()
        service.revoke(token_id="x")
        await eventually(lambda: any(probe.applied_cursor == service.head for probe in service.probes))
        assert {probe.subscriber_id for probe in service.probes} == {"gateway-1"}
        assert service.stream_requests[0].subscriber_id == "gateway-1"


async def test_a_probe_begins_soon_after_a_stale_validation(service: FakeTokenService, kind: str) -> None:
    config = config_for(service, bound=600.0)
    async with AnyValidator(kind, config) as validator:
        assert await validator.wait_ready()
        parts = validator.real._parts
        assert parts.follower_state is not None
        parts.follower_state.feed.fresh_until = float("-inf")
        parts.follower_state._probed_at = float("-inf")
        await validator.validate(service.mint.token(time.time()))
        await eventually(lambda: validator.is_fresh)  # the next regular probe is minutes away


async def test_closing_ends_streams_threads_and_tasks(service: FakeTokenService, kind: str) -> None:
    threads = threading.active_count()
    tasks = len(asyncio.all_tasks())
    validator = AnyValidator(kind, config_for(service))
    async with validator:
        assert await validator.wait_ready()
        assert service.open_streams == 1
    await eventually(lambda: service.open_streams == 0)
    assert len(asyncio.all_tasks()) == tasks
    if kind == "sync":
        names = {thread.name for thread in threading.enumerate()}
        assert not {"follow-revocations", "prove-freshness"} & names
    assert threading.active_count() <= threads + 40  # the pools of the fake and of asyncio
    with pytest.raises((ReplicaStaleError, InvalidTokenError)):
        await validator.validate("x.y.z")


async def test_close_succeeds_while_the_service_is_unavailable(service: FakeTokenService, kind: str) -> None:
    service.stop()
    async with AnyValidator(kind, config_for(service)) as validator:
        await asyncio.sleep(0.1)
    assert not validator.is_fresh
    service.start()


async def test_the_cache_is_bounded(service: FakeTokenService, kind: str) -> None:
    async with AnyValidator(kind, config_for(service, cache_capacity=50)) as validator:
        assert await validator.wait_ready()
        for _ in range(200):
            await validator.validate(service.mint.token(time.time()))
        assert len(validator.real._local.cache) <= 51


async def test_cache_age_is_enforced(service: FakeTokenService, kind: str) -> None:
    clock = ManualClock(time.time())
    async with AnyValidator(kind, config_for(service, bound=600.0, cache_age=200.0), clock) as validator:
        assert await validator.wait_ready()
        token = service.mint.token(clock.wall)
        await validator.validate(token)
        clock.advance(199.0)
        await validator.validate(token)
        assert validator.counters.verified == 1
        clock.advance(1.0)
        await validator.validate(token)
        assert validator.counters.verified == 2


async def test_kinds_other_than_configured_are_refused(service: FakeTokenService, kind: str) -> None:
    id_token = service.mint.token(time.time(), {"typ": "JWT"}, azp="web", client_id=...)
    async with AnyValidator(kind, config_for(service)) as validator:
        assert await validator.wait_ready()
        assert await reason_of(validator, id_token) is _R.WRONG_TYPE
    issuer = ServiceIssuer(
        issuer=service.issuer, target=service.address, token_kinds=frozenset({TokenKind.ID})
    )
    async with AnyValidator(kind, ValidatorConfig(issuers=[issuer], audience=AUDIENCE)) as validator:
        assert await validator.wait_ready()
        assert (await validator.validate(id_token)).kind is TokenKind.ID
        assert await reason_of(validator, service.mint.token(time.time())) is _R.WRONG_TYPE


async def test_explain_names_failed_checks_and_shows_no_token(service: FakeTokenService, kind: str) -> None:
    async with AnyValidator(kind, config_for(service)) as validator:
        assert await validator.wait_ready()
        token = service.mint.token(time.time(), jti="x")
        good = validator.explain(token, required_scopes=["read"])
        assert good.accepted
        service.revoke(token_id="x")
        await eventually(lambda: validator.counters.revocations == 1)
        bad = validator.explain(token, audience="other", required_scopes=["read", "admin"])
        assert not bad.accepted
        failed = {check.name for check in bad.checks if check.ok is False}
        assert failed == {"audience", "revocation", "scope"}
        for report in (
            good,
            bad,
            validator.explain("no token"),
            validator.explain(Mint("ES256", "other").token(time.time())),
        ):
            text = str(report)
            assert token.rsplit(".", 1)[1] not in text
            assert token.split(".")[1] not in text
        assert "keys known" in str(validator.explain(Mint("ES256", "other").token(time.time())))


async def test_one_text_is_no_collection_of_scopes(service: FakeTokenService, kind: str) -> None:
    async with AnyValidator(kind, config_for(service)) as validator:
        assert await validator.wait_ready()
        with pytest.raises(TypeError, match="required_scopes"):
            await validator.validate(service.mint.token(time.time()), required_scopes="read")


def test_validator_needs_a_target() -> None:
    config = ValidatorConfig(issuers=[ServiceIssuer(issuer="https://i.test")], audience=None)
    with pytest.raises(ConfigurationError, match="target"):
        SyncTokenValidator(config).start()


async def test_constructors_do_no_io() -> None:
    issuer = ServiceIssuer(issuer="https://i.test", target="127.0.0.1:1", freshness=Freshness())
    config = ValidatorConfig(issuers=[issuer], audience=None)
    for validator in (TokenValidator(config), SyncTokenValidator(config)):
        assert not validator.is_fresh
        assert validator.counters.streams == 0


async def test_threads_and_tasks_validate_during_many_revocations(
    service: FakeTokenService, kind: str
) -> None:
    async with AnyValidator(kind, config_for(service, bound=2.0)) as validator:
        assert await validator.wait_ready()
        now = time.time()
        tokens = [service.mint.token(now, jti=f"hot-{number}") for number in range(50)]
        stop = asyncio.Event()
        revoked: dict[str, float] = {}
        wrong: list[str] = []

        async def validate_all(offset: int) -> None:
            while not stop.is_set():
                for number in range(offset, 50, 5):
                    began = time.monotonic()
                    name = f"hot-{number}"
                    known = revoked.get(name, float("inf"))
                    try:
                        await validator.validate(tokens[number])
                    except InvalidTokenError as error:
                        if error.reason is not _R.REVOKED or name not in revoked:
                            wrong.append(f"{name}: {error.reason}")
                    except ReplicaStaleError:
                        pass  # no proof in time and no answer of the service
                    else:
                        if began > known + 2.0:
                            wrong.append(f"{name} accepted {began - known} s after its revocation")
                    await asyncio.sleep(0)

        workers = [asyncio.create_task(validate_all(offset)) for offset in range(5)]
        for number in range(1500):
            revoked_now = f"hot-{number}" if number < 25 else f"cold-{number}"
            revoked[revoked_now] = float("inf")  # from here on the revocation may take effect
            revoked[revoked_now] = service.revoke(token_id=revoked_now)
            if number % 50 == 0:
                await asyncio.sleep(0.01)
        await eventually(lambda: validator.counters.revocations == 1500)
        stop.set()
        await asyncio.gather(*workers)
        assert wrong == []
        for number in range(25):
            assert await reason_of(validator, tokens[number]) is _R.REVOKED
