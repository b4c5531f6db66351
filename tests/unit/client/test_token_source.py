from __future__ import annotations

import asyncio
import logging
import threading
import time
from dataclasses import replace

import grpc
import pytest

from tests.support.both_sources import IMPATIENT, PATIENT, AnySource, Store, tokens_of
from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from token_service.client import MemoryTokenStore, RenewalPolicy, SyncTokenSource, Tokens
from token_service.client._internal.token_store import lifetime, remaining
from token_service.errors import (
    BindingRequiredError,
    CallerUnauthenticatedError,
    ConfigurationError,
    PermissionDeniedError,
    ProofInvalidError,
    ProofNonceRequiredError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    ServiceError,
    SessionRevokedError,
    StoreUnavailableError,
    TooManyRetriesError,
    UnreachableError,
    WrongKeyError,
)
from token_service.v1 import token_service_pb2 as pb
from token_service.v1.token_service_pb2_grpc import TokenServiceStub


def source_of(kind: str, service: FakeTokenService, tokens: Tokens | None, **options: object) -> AnySource:
    return AnySource(kind, service, Store(tokens), **options)


async def test_token_far_from_expiry_is_used(service: FakeTokenService, kind: str) -> None:
    first = tokens_of(service)
    async with source_of(kind, service, first) as source:
        assert await source.token() == first.access_token
        assert service.refresh_calls == []


async def test_renewal_ahead_of_expiry_delays_no_caller(service: FakeTokenService, kind: str) -> None:
    first = tokens_of(service)
    async with source_of(kind, service, first) as source:
        assert await source.token() == first.access_token
        source.passed = 900 * 0.6
        assert await source.token() == first.access_token
        assert service.refresh_calls == []
        source.passed = 900 * 0.85
        assert await source.token() == first.access_token
        await eventually(lambda: len(service.refresh_calls) == 1)
        source.passed = 0
        await eventually(lambda: source.store.saves == 1)
        assert await source.token() != first.access_token
        saved = source.store.load()
        assert saved is not None
        assert saved.refresh_token == "refresh-1"
        call = service.refresh_calls[0]
        assert (call.client_id, call.refresh_token) == ("web", "refresh-0")


async def test_an_expired_token_is_waited_for_by_all_and_fetched_once(
    service: FakeTokenService, kind: str
) -> None:
    async with source_of(kind, service, tokens_of(service, life=-1)) as source:
        got = await asyncio.gather(*(source.token() for _ in range(20)))
        assert len(set(got)) == 1
        assert len(service.refresh_calls) == 1


async def test_a_lost_answer_is_asked_for_again_with_the_same_token(
    service: FakeTokenService, kind: str
) -> None:
    service.lose_refreshes = 2
    async with source_of(kind, service, tokens_of(service, life=-1)) as source:
        await source.token()
        assert [call.refresh_token for call in service.refresh_calls] == ["refresh-0"] * 3
        saved = source.store.load()
        assert saved is not None
        assert saved.refresh_token == "refresh-1"


async def test_process_killed_between_answer_and_store_keeps_the_session(
    service: FakeTokenService, kind: str
) -> None:
    first = tokens_of(service, life=-1)
    service.generation = 1  # the service has answered and the answer was not stored
    async with source_of(kind, service, first) as source:
        await source.token()
        assert service.generation == 1


def test_a_stub_of_a_test_needs_no_metadata_without_a_trace() -> None:
    class Stub:
        def RefreshToken(self, request: pb.RefreshTokenRequest, timeout: float) -> pb.RefreshTokenResponse:
            answer = pb.RefreshTokenResponse(
                access_token="second", refresh_token="refresh-1", token_type="Bearer"
            )
            answer.access_token_expire_time.FromSeconds(int(time.time()) + 900)
            return answer

    old = Tokens(access_token="first", access_expire_time=time.time() - 1, refresh_token="refresh-0")
    source = SyncTokenSource(Stub(), client_id="web", store=MemoryTokenStore(old))
    assert source.token() == "second"


async def test_cancelled_caller_does_not_cancel_the_renewal(service: FakeTokenService) -> None:
    service.lose_refreshes = 1
    async with source_of("async", service, tokens_of(service, life=-1)) as source:
        waiting = asyncio.create_task(source.token())
        await eventually(lambda: len(service.refresh_calls) >= 1)
        waiting.cancel()
        await source.token()
        assert service.generation == 1


@pytest.mark.parametrize("error", [SessionRevokedError, RefreshTokenReusedError, RefreshTokenInvalidError])
async def test_ended_session_is_reported_at_once_without_another_request(
    service: FakeTokenService, kind: str, error: type[ServiceError]
) -> None:
    service.refuse_refreshes = error()
    async with source_of(kind, service, tokens_of(service, life=-1)) as source:
        for _ in range(3):
            with pytest.raises(error):
                await source.token()
        assert len(service.refresh_calls) == 1
        service.refuse_refreshes = None
        await source.do("replace", tokens_of(service, life=-1))
        await source.token()


@pytest.mark.parametrize(
    "error",
    [
        BindingRequiredError,
        CallerUnauthenticatedError,
        PermissionDeniedError,
        ProofInvalidError,
        ProofNonceRequiredError,
        WrongKeyError,
    ],
)
async def test_a_refusal_of_the_caller_or_its_key_does_not_end_the_session(
    service: FakeTokenService, kind: str, error: type[ServiceError]
) -> None:
    service.refuse_refreshes = error()
    async with source_of(kind, service, tokens_of(service, life=-1)) as source:
        with pytest.raises(error):
            await source.token()
        assert len(service.refresh_calls) == 1
        service.refuse_refreshes = None
        await source.token()
        assert [call.refresh_token for call in service.refresh_calls] == ["refresh-0", "refresh-0"]


async def test_token_is_used_until_expiry_while_the_service_is_unavailable(
    service: FakeTokenService, kind: str
) -> None:
    first = tokens_of(service)
    service.refuse_refreshes = StoreUnavailableError()
    async with source_of(kind, service, first, policy=IMPATIENT) as source:
        assert await source.token() == first.access_token
        source.passed = 800
        assert await source.token() == first.access_token
        await eventually(lambda: len(service.refresh_calls) >= 2)
        source.passed = 898
        with pytest.raises(StoreUnavailableError):
            await source.token()
        service.refuse_refreshes = None
        source.passed = 0
        source.invalidate(first.access_token)
        assert await source.token() != first.access_token


async def test_request_is_repeated_no_sooner_than_retry_after(service: FakeTokenService, kind: str) -> None:
    service.refuse_refreshes = TooManyRetriesError(retry_after=0.4)
    async with source_of(kind, service, tokens_of(service, life=-1), policy=IMPATIENT) as source:
        began = time.monotonic()
        with pytest.raises(TooManyRetriesError):
            await source.token()
        assert len(service.refresh_calls) <= (time.monotonic() - began) / 0.4 + 1


async def test_a_refused_token_is_replaced_once(service: FakeTokenService, kind: str) -> None:
    first = tokens_of(service)
    async with source_of(kind, service, first) as source:
        assert await source.token() == first.access_token
        source.invalidate(first.access_token)
        second = await source.token()
        source.invalidate(first.access_token)
        assert await source.token() == second
        assert len(service.refresh_calls) == 1


async def test_failing_store_only_causes_a_log_line(
    service: FakeTokenService, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with source_of(kind, service, tokens_of(service, life=-1)) as source:
        source.store.broken = True
        with caplog.at_level(logging.ERROR):
            token = await source.token()
        assert "no space left" in caplog.text
        assert token not in caplog.text
        source.store.broken = False
    assert source.store.saves == 1  # at the latest on close


async def test_source_without_tokens_raises(service: FakeTokenService, kind: str) -> None:
    async with source_of(kind, service, None) as source:
        with pytest.raises(RefreshTokenInvalidError, match="no refresh token"):
            await source.token()
        await source.do("replace", tokens_of(service))
        await source.token()


async def test_source_requests_narrower_scopes(service: FakeTokenService, kind: str) -> None:
    options = {"scopes": ["read"], "audience": ["api"], "device_id": "phone"}
    async with source_of(kind, service, tokens_of(service, life=-1), **options) as source:
        await source.token()
        call = service.refresh_calls[0]
        assert (list(call.scopes), list(call.audience), call.device_id) == (["read"], ["api"], "phone")


def test_threads_share_one_renewal(service: FakeTokenService) -> None:
    with grpc.insecure_channel(service.address) as channel:
        source = SyncTokenSource(
            TokenServiceStub(channel),
            client_id="web",
            store=Store(tokens_of(service, life=-1)),
            policy=PATIENT,
        )
        got: list[str] = []
        threads = [threading.Thread(target=lambda: got.append(source.token())) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 20
        assert len(set(got)) == 1
        assert len(service.refresh_calls) == 1
        source.close()


def test_repr_shows_no_token(service: FakeTokenService) -> None:
    known = tokens_of(service)
    assert known.access_token not in repr(known)
    assert known.refresh_token not in repr(known)


@pytest.mark.parametrize(
    "bad", [{"ahead": 0}, {"ahead": 0.9}, {"attempt_timeout": 0}, {"give_up_after": -1}], ids=str
)
def test_contradictory_policies_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        RenewalPolicy(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong_by", [-86400.0, -3600.0, -30.0, 30.0, 890.0, 3600.0, 86400.0])
async def test_wrong_wall_clock_causes_at_most_one_renewal(
    service: FakeTokenService, kind: str, wrong_by: float
) -> None:
    async with source_of(kind, service, tokens_of(service)) as source:
        source.wall = wrong_by
        await source.token()
        await eventually(lambda: source.store.saves == len(service.refresh_calls))
        for _ in range(20):
            await source.token()
        assert len(service.refresh_calls) <= 1


@pytest.mark.parametrize("wrong_by", [-3600.0, 3600.0])
async def test_wrong_wall_clock_does_not_delay_renewal_or_extend_a_token(
    service: FakeTokenService, kind: str, wrong_by: float
) -> None:
    async with source_of(kind, service, tokens_of(service, life=-1)) as source:
        source.wall = wrong_by
        first = await source.token()
        source.passed = 900 * 0.6
        assert await source.token() == first
        assert len(service.refresh_calls) == 1
        source.passed = 896  # 4 s before its end by the clock that does not jump
        assert await source.token() != first
        assert len(service.refresh_calls) == 2


async def test_a_wall_clock_that_jumps_changes_the_age_of_no_token(
    service: FakeTokenService, kind: str
) -> None:
    async with source_of(kind, service, tokens_of(service)) as source:
        first = await source.token()
        for source.wall in (-86400.0, 86400.0, 0.0):
            assert await source.token() == first
        assert service.refresh_calls == []


@pytest.mark.parametrize(
    ("received", "renewed"),
    [
        pytest.param(10.0, 0, id="long enough to live"),
        pytest.param(899.0, 1, id="at its end"),
        pytest.param(5000.0, 1, id="beyond its end"),
        pytest.param(-3.0, 0, id="the clock was set back a little"),
        pytest.param(-600.0, 1, id="the clock was set back: no age can be told"),
    ],
)
async def test_the_age_of_stored_tokens_is_counted_from_their_receipt(
    service: FakeTokenService, kind: str, received: float, renewed: int
) -> None:
    """The clock of the service is an hour off."""
    tokens = tokens_of(service)
    async with source_of(kind, service, None) as source:
        source.wall = -3600.0
        source.store.save(replace(tokens, receive_time=time.time() + source.wall - received))
        got = await source.token()
        assert len(service.refresh_calls) == renewed
        assert (got == tokens.access_token) == (not renewed)


async def test_stored_tokens_have_their_receive_time(service: FakeTokenService, kind: str) -> None:
    async with source_of(kind, service, tokens_of(service, life=-1)) as source:
        source.wall = 7200.0
        began = time.time() + 7200.0
        await source.token()
        saved = source.store.load()
        assert saved is not None
        assert saved.receive_time is not None
        assert began <= saved.receive_time <= time.time() + 7200.0


@pytest.mark.parametrize("access", ["opaque", "a.b.c", "a.e30.c", "a.bnVsbA.c", "", "\xe9.\xe9.\xe9"])
def test_an_access_token_without_a_time_of_issue_lives_by_the_wall_clock(access: str) -> None:
    tokens = Tokens(access_token=access, access_expire_time=1000.0, refresh_token="refresh-0")
    assert lifetime(tokens) is None
    assert remaining(tokens, 900.0) == 100.0
    assert remaining(tokens, 1100.0) == -100.0


async def test_no_call_is_made_after_the_source_gave_up_even_if_the_process_was_stopped(
    service: FakeTokenService, kind: str
) -> None:
    """A refresh token that is repeated after the grace window ends the session."""
    service.lose_refreshes = 1
    store = Store(tokens_of(service, life=-1))
    source = AnySource(kind, service, store)
    load = store.load

    def stand_still() -> Tokens | None:
        if service.refresh_calls:
            source.passed = PATIENT.give_up_after + 1
        return load()

    store.load = stand_still  # type: ignore[method-assign]
    async with source:
        with pytest.raises(UnreachableError):
            await source.token()
        assert len(service.refresh_calls) == 1


async def test_tokens_replaced_during_a_renewal_are_kept(service: FakeTokenService, kind: str) -> None:
    login = tokens_of(service, refresh="login-0")
    service.refresh_gate.clear()
    async with source_of(kind, service, tokens_of(service, life=-1)) as source:
        waiting = asyncio.create_task(source.token())
        await eventually(lambda: len(service.refresh_calls) == 1)
        await source.do("replace", login)
        service.refresh_gate.set()
        assert await waiting == login.access_token
        assert source.store.load() == login
        assert len(service.refresh_calls) == 1


async def test_the_end_of_a_session_that_was_replaced_does_not_end_the_new_one(
    service: FakeTokenService, kind: str
) -> None:
    login = tokens_of(service, refresh="login-0")
    service.refresh_gate.clear()
    service.refuse_refreshes = SessionRevokedError()
    async with source_of(kind, service, tokens_of(service, life=-1)) as source:
        waiting = asyncio.create_task(source.token())
        await eventually(lambda: len(service.refresh_calls) == 1)
        await source.do("replace", login)
        service.refresh_gate.set()
        assert await waiting == login.access_token
        assert await source.token() == login.access_token
