"""Each method once with success, and each refusal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.memory_stores import MemoryStores
from tests.support.released import released_message
from tests.unit.core.node import ISSUER, Intercepted, Node, raising
from tests.unit.rpc.serving import Served, refused, serving
from token_service.clock import SystemClock
from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights
from token_service.core.policies.rights import Permission
from token_service.errors import (
    SigningUnavailableError,
    StoreUnavailableError,
)
from token_service.rpc.server.authorizer import TrustingAuthorizer
from token_service.rpc.services.token_service import TokenService
from token_service.tokens import base64url
from token_service.tokens.algorithms import Algorithm
from token_service.v1 import key_service_pb2, session_service_pb2, token_pb2, token_service_pb2 as pb

ACCESS, REFRESH, ID, SESSION = 1, 2, 3, 4

UNKNOWN_SESSION = "6f1c7b0e-3f0a-4a57-9f0e-5d7a3f2b9c11"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


def struct(**values: Any) -> Struct:
    message = Struct()
    message.update(values)
    return message


# --- IssueToken and ValidateToken -------------------------------------------------------------------------------------


async def test_issued_tokens_have_the_requested_content(served: Served) -> None:
    issued = await served.issue(
        audience=["https://api", "https://other"],
        scopes=["write", "read"],
        token_types=[ACCESS, REFRESH, ID, SESSION, ACCESS],
        auth_context=token_pb2.AuthContext(
            acr="mfa", amr=["pwd", "otp"], auth_time=Timestamp(seconds=1_700_000_000)
        ),
        custom_claims=struct(tenant="acme", level=3, nested={"list": [1, 2.5, None, True]}),
        device_id="phone",
        access_token_ttl=Duration(seconds=60),
        refresh_token_ttl=Duration(seconds=3600),
        confirmation=token_pb2.Confirmation(jkt="a" * 43),
        nonce="n-1",
    )
    assert issued.token_type == "DPoP"
    assert list(issued.scopes) == ["write", "read"]
    for token, kind in (
        (issued.access_token, "TOKEN_TYPE_ACCESS"),
        (issued.refresh_token, "TOKEN_TYPE_REFRESH"),
        (issued.id_token, "TOKEN_TYPE_ID"),
        (issued.session_token, "TOKEN_TYPE_SESSION"),
    ):
        for consistency in (pb.CONSISTENCY_LOCAL, pb.CONSISTENCY_STRONG):
            answer = await served.validate(token, consistency=consistency, caller_checks_binding=True)
            claims = MessageToDict(answer.claims, preserving_proto_field_name=True)
            assert answer.active
            assert answer.reason == pb.INVALID_REASON_UNSPECIFIED
            assert answer.cursor == str(served.node.replica.cursor)
            assert claims["token_type"] == kind
            assert (claims["issuer"], claims["subject"], claims["client_id"]) == (ISSUER, "alice", "web")
            assert claims["session_id"] == issued.session_id
            assert claims["auth_context"] == {
                "acr": "mfa",
                "amr": ["pwd", "otp"],
                "auth_time": "2023-11-14T22:13:20Z",
            }
            assert claims["custom_claims"] == {
                "tenant": "acme",
                "level": 3.0,
                "nested": {"list": [1.0, 2.5, None, True]},
            }
            if kind != "TOKEN_TYPE_ID":
                assert sorted(claims["scopes"]) == ["read", "write"]
                assert claims["audience"] == ["https://api", "https://other"]
                assert claims["confirmation"] == {"jkt": "a" * 43}
    access = (await served.validate(issued.access_token, caller_checks_binding=True)).claims
    assert access.token_id == issued.token_id
    assert access.expire_time == issued.access_token_expire_time
    assert access.expire_time.seconds - access.issue_time.seconds == 60
    assert access.not_before == access.issue_time


async def test_by_default_an_access_and_a_refresh_token(served: Served) -> None:
    issued = await served.issue()
    assert issued.access_token
    assert issued.refresh_token.startswith("rt_")
    assert issued.session_id
    assert issued.token_type == "Bearer"
    assert not issued.id_token
    assert not issued.session_token


async def test_an_access_token_alone_has_no_session(served: Served) -> None:
    issued = await served.issue(token_types=[ACCESS])
    assert (issued.session_id, issued.refresh_token) == ("", "")
    assert not issued.HasField("refresh_token_expire_time")


async def test_a_repeated_request_id_answers_for_the_same_session(served: Served) -> None:
    first = await served.issue(request_id="r-1")
    again = await served.issue(request_id="r-1")
    assert (again.session_id, again.refresh_token) == (first.session_id, first.refresh_token)
    failure = await refused(served.issue(request_id="r-1", subject="bob"))
    assert (failure.code, failure.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"subject": ""}, "subject"),
        ({"client_id": ""}, "client_id"),
        ({"subject": "x" * 257}, "subject"),
        ({"subject": "a\x00b"}, "subject"),
        ({"audience": ["a"] * 2}, "audience"),
        ({"audience": [""]}, "audience[0]"),
        ({"scopes": ["a b"]}, "scopes[0]"),
        ({"scopes": [str(n) for n in range(65)]}, "scopes"),
        ({"token_types": [0]}, "token_types[0]"),
        ({"token_types": [ACCESS, 99]}, "token_types[1]"),
        ({"device_id": "x" * 257}, "device_id"),
        ({"nonce": "x" * 257}, "nonce"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"access_token_ttl": Duration(seconds=-1)}, "access_token_ttl"),
        ({"access_token_ttl": Duration()}, "access_token_ttl"),
        ({"access_token_ttl": Duration(seconds=2**62)}, "access_token_ttl"),
        ({"refresh_token_ttl": Duration(seconds=1, nanos=-1)}, "refresh_token_ttl"),
        (
            {"auth_context": token_pb2.AuthContext(auth_time=Timestamp(seconds=2**62))},
            "auth_context.auth_time",
        ),
        ({"auth_context": token_pb2.AuthContext(auth_time=Timestamp(seconds=-1))}, "auth_context.auth_time"),
        ({"auth_context": token_pb2.AuthContext(acr="x" * 257)}, "auth_context.acr"),
        ({"auth_context": token_pb2.AuthContext(amr=["x"] * 17)}, "auth_context.amr"),
        ({"confirmation": token_pb2.Confirmation(jkt="short")}, "confirmation.jkt"),
        ({"confirmation": token_pb2.Confirmation(jkt="a" * 43, x5t_s256="a" * 43)}, "confirmation"),
        ({"client_context": token_pb2.ClientContext(user_agent="x" * 513)}, "client_context.user_agent"),
        ({"custom_claims": struct(n=float("nan"))}, "custom_claims.n"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_field_that_breaks_its_rules_is_named(served: Served, fields: Any, field: str) -> None:
    failure = await refused(served.issue(**fields))
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert list(failure.fields) == [field]


async def test_all_violations_are_reported_in_one_error(served: Served) -> None:
    failure = await refused(served.issue(token_types=[77], access_token_ttl=Duration(nanos=-(10**9))))
    assert set(failure.fields) == {"token_types[0]", "access_token_ttl"}
    failure = await refused(served.issue(subject="", client_id="x" * 300))
    assert set(failure.fields) == {"subject", "client_id"}


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"sub": "root"}, "RESERVED_CLAIM"),
        ({"text": "x" * 5000}, "CUSTOM_CLAIMS_TOO_LARGE"),
        ({str(n): n for n in range(65)}, "CUSTOM_CLAIMS_TOO_LARGE"),
        ({"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}}, "CUSTOM_CLAIMS_TOO_LARGE"),
    ],
)
async def test_forbidden_custom_claims_are_refused(served: Served, claims: Any, reason: str) -> None:
    failure = await refused(served.issue(custom_claims=struct(**claims)))
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", reason)


async def test_the_longest_lifetimes_are_cut_to_the_policys(served: Served) -> None:
    longest = Duration(seconds=315_576_000_000)
    issued = await served.issue(access_token_ttl=longest, refresh_token_ttl=longest)
    claims = (await served.validate(issued.access_token)).claims
    policy = served.node.policy
    assert claims.expire_time.seconds - claims.issue_time.seconds == policy.access_token_ttl


async def test_policy_may_require_binding(served: Served) -> None:
    served.node.policy = replace(served.node.policy, binding_required=True)
    failure = await refused(served.issue())
    assert (failure.code, failure.reason) == ("FAILED_PRECONDITION", "BINDING_REQUIRED")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"audience": "https://elsewhere"}, pb.INVALID_REASON_WRONG_AUDIENCE),
        ({"required_scopes": ["admin"]}, pb.INVALID_REASON_INSUFFICIENT_SCOPE),
        ({"token_type_hint": ID}, pb.INVALID_REASON_WRONG_TYPE),
        ({"audience": ISSUER, "required_scopes": ["read"], "token_type_hint": ACCESS}, None),
    ],
)
async def test_validation_checks_the_requirements_of_the_query(
    served: Served, query: Any, reason: Any
) -> None:
    token = (await served.issue(scopes=["read"])).access_token
    for _ in range(2):  # the second time from memory
        answer = await served.validate(token, **query)
        assert answer.active is (reason is None)
        assert answer.reason == (reason or 0)
        assert answer.HasField("claims") is (reason is None)
        assert answer.cursor


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("x", "MALFORMED"),
        ("a.b.c", "MALFORMED"),
        ("x" * 20_000, "TOO_LARGE"),
        ("rt_" + "A" * 95, "BAD_SIGNATURE"),
        ("st_x", "MALFORMED"),
        ("é", "MALFORMED"),
    ],
)
async def test_bad_token_is_an_answer_and_no_error(served: Served, token: str, reason: str) -> None:
    for consistency in (pb.CONSISTENCY_LOCAL, pb.CONSISTENCY_STRONG):
        answer = await served.validate(token, consistency=consistency)
        assert not answer.active
        assert pb.InvalidReason.Name(answer.reason) == f"INVALID_REASON_{reason}"
        assert not answer.HasField("claims")
        assert answer.cursor


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"token": ""}, "token"),
        ({"token": "x", "token_type_hint": 9}, "token_type_hint"),
        ({"token": "x", "consistency": 9}, "consistency"),
        ({"token": "x", "consistency": -1}, "consistency"),
        ({"token": "x", "required_scopes": ["s"] * 65}, "required_scopes"),
        ({"token": "rt_x", "token_type_hint": -1}, "token_type_hint"),
    ],
)
async def test_invalid_query_is_refused(served: Served, query: Any, field: str) -> None:
    failure = await refused(served.tokens.ValidateToken(pb.ValidateTokenRequest(**query)))
    assert (failure.code, list(failure.fields)) == ("INVALID_ARGUMENT", [field])
    batch = pb.BatchValidateTokensRequest(
        requests=[pb.ValidateTokenRequest(token="x"), pb.ValidateTokenRequest(**query)]
    )
    failure = await refused(served.tokens.BatchValidateTokens(batch))
    assert (failure.code, list(failure.fields)) == ("INVALID_ARGUMENT", [f"requests[1].{field}"])


async def test_cached_answer_reflects_later_revocations(served: Served) -> None:
    issued = await served.issue()
    first = await served.validate(issued.access_token)
    await served.revoke(subject="somebody-else")
    second = await served.validate(issued.access_token)
    assert (first.active, second.active) == (True, True)
    assert second.claims == first.claims
    assert int(second.cursor.rpartition(":")[2]) == int(first.cursor.rpartition(":")[2]) + 1
    await served.revoke(token_id=issued.token_id)
    third = await served.validate(issued.access_token)
    assert (third.active, third.reason) == (False, pb.INVALID_REASON_REVOKED)


async def test_cached_answer_ends_with_the_token() -> None:
    clock = SettableClock()
    async with serving(node=Node(clock, algorithm=Algorithm.ES256)) as served:
        issued = await served.issue(access_token_ttl=Duration(seconds=100))
        assert (await served.validate(issued.access_token)).active
        clock.offset = 50.0
        assert (await served.validate(issued.access_token)).active
        clock.offset = 100.0
        assert (await served.validate(issued.access_token)).reason == pb.INVALID_REASON_EXPIRED
        clock.offset = -30.0
        assert (await served.validate(issued.access_token)).reason == pb.INVALID_REASON_NOT_YET_VALID
        clock.offset = 0.0
        assert (await served.validate(issued.access_token)).active


async def test_cached_answer_does_not_outlive_its_key(served: Served) -> None:
    issued = await served.issue()
    assert (await served.validate(issued.access_token)).active
    await served.revoke(key_id=served.node.keyring.signer().key_id)
    assert not (await served.validate(issued.access_token)).active


async def test_cache_of_answers_is_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("token_service.rpc.services.validation._ANSWERED_CAPACITY", 3)
    token = (await served.issue(scopes=["a"])).access_token
    for number in range(10):
        assert (await served.validate(token, required_scopes=["a"] * number)).active
    service = served.services["token_service.v1.TokenService"]
    assert isinstance(service, TokenService)
    assert len(service._validation._answered) <= 3


async def test_a_batch_answers_in_order(served: Served) -> None:
    issued = await served.issue(scopes=["read"])
    requests = [
        pb.ValidateTokenRequest(token=issued.access_token),
        pb.ValidateTokenRequest(token="nonsense"),
        pb.ValidateTokenRequest(token=issued.refresh_token),
        pb.ValidateTokenRequest(token=issued.access_token, required_scopes=["write"]),
        pb.ValidateTokenRequest(token=issued.access_token, consistency=pb.CONSISTENCY_STRONG),
    ] * 30
    answers = await served.tokens.BatchValidateTokens(pb.BatchValidateTokensRequest(requests=requests))
    assert [answer.active for answer in answers.responses] == [True, False, True, False, True] * 30
    assert answers.responses[0] == await served.validate(issued.access_token)


async def test_a_batch_of_unknown_keys_takes_one_look_at_the_keys() -> None:
    clock = SystemClock()
    stores = MemoryStores(clock)
    log = Intercepted(stores.log)
    async with serving(node=Node(clock, stores=stores, log=log, poll_interval=60.0)) as served:
        header, rest = (await served.issue()).access_token.split(".", 1)
        fields = json.loads(base64url.decode(header.encode()))
        headers = [json.dumps({**fields, "kid": f"kid-{number}"}).encode() for number in range(256)]
        requests = [pb.ValidateTokenRequest(token=f"{base64url.encode(text)}.{rest}") for text in headers]
        log.calls.clear()
        answers = await served.tokens.BatchValidateTokens(pb.BatchValidateTokensRequest(requests=requests))
        assert {answer.reason for answer in answers.responses} == {pb.INVALID_REASON_UNKNOWN_KEY}
        assert log.calls.count("head") == 1


@pytest.mark.parametrize("count", [0, 257])
async def test_a_batch_has_1_to_256_requests(served: Served, count: int) -> None:
    request = pb.BatchValidateTokensRequest(requests=[pb.ValidateTokenRequest(token="x")] * count)
    failure = await refused(served.tokens.BatchValidateTokens(request))
    assert (failure.code, list(failure.fields)) == ("INVALID_ARGUMENT", ["requests"])


async def test_the_largest_batch_fits_into_a_message(served: Served) -> None:
    request = pb.BatchValidateTokensRequest(requests=[pb.ValidateTokenRequest(token="x" * 16_384)] * 256)
    answers = await served.tokens.BatchValidateTokens(request)
    assert len(answers.responses) == 256


async def test_a_node_that_is_behind_does_not_answer() -> None:
    async with serving() as served:
        issued = await served.issue()
        assert (await served.validate(issued.access_token)).active
        served.node.log.head = raising(StoreUnavailableError())
        served.node.tailer._fresh_until = float("-inf")
        for _ in range(2):
            failure = await refused(served.validate(issued.access_token))
            assert (failure.code, failure.reason) == ("UNAVAILABLE", "REPLICA_STALE")
            assert failure.retry_after is not None


async def test_strong_answers_need_the_database(served: Served) -> None:
    issued = await served.issue()
    served.node.log.head = raising(StoreUnavailableError())
    failure = await refused(served.validate(issued.access_token, consistency=pb.CONSISTENCY_STRONG))
    assert (failure.code, failure.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")


# --- RefreshToken -----------------------------------------------------------------------------------------------------


async def test_a_refresh_token_is_exchanged(served: Served) -> None:
    issued = await served.issue(scopes=["a", "b"], audience=["x", "y"], device_id="d")
    request = pb.RefreshTokenRequest(
        refresh_token=issued.refresh_token, client_id="web", device_id="d", scopes=["b"], audience=["y"]
    )
    refreshed = await served.tokens.RefreshToken(request)
    assert refreshed.refresh_token not in {"", issued.refresh_token}
    assert refreshed.session_id == issued.session_id
    assert list(refreshed.scopes) == ["b"]
    claims = (await served.validate(refreshed.access_token)).claims
    assert (list(claims.scopes), list(claims.audience)) == (["b"], ["y"])
    again = await served.tokens.RefreshToken(request)
    assert again.refresh_token == refreshed.refresh_token


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"refresh_token": ""}, "INVALID_ARGUMENT", "INVALID_REQUEST"),
        ({"refresh_token": "rt_nonsense"}, "UNAUTHENTICATED", "REFRESH_TOKEN_INVALID"),
        ({"refresh_token": "x" * 100_000}, "UNAUTHENTICATED", "REFRESH_TOKEN_INVALID"),
        ({"client_id": "other"}, "PERMISSION_DENIED", "WRONG_CLIENT"),
        ({"device_id": "other"}, "PERMISSION_DENIED", "WRONG_DEVICE"),
        ({"scopes": ["admin"]}, "INVALID_ARGUMENT", "SCOPE_EXCEEDED"),
        ({"audience": ["admin"]}, "INVALID_ARGUMENT", "SCOPE_EXCEEDED"),
        ({"client_id": ""}, "INVALID_ARGUMENT", "INVALID_REQUEST"),
    ],
    ids=str,
)
async def test_invalid_refresh_is_refused(served: Served, fields: Any, code: str, reason: str) -> None:
    issued = await served.issue(scopes=["a"], device_id="d")
    request: dict[str, Any] = {
        "refresh_token": issued.refresh_token,
        "client_id": "web",
        "device_id": "d",
        **fields,
    }
    failure = await refused(served.tokens.RefreshToken(pb.RefreshTokenRequest(**request)))
    assert (failure.code, failure.reason) == (code, reason)
    fine: dict[str, Any] = {"refresh_token": issued.refresh_token, "client_id": "web", "device_id": "d"}
    assert (await served.tokens.RefreshToken(pb.RefreshTokenRequest(**fine))).refresh_token


async def test_a_used_token_ends_its_family(served: Served) -> None:
    served.node.policy = replace(served.node.policy, grace_period=0)
    issued = await served.issue()
    request = pb.RefreshTokenRequest(refresh_token=issued.refresh_token, client_id="web")
    next_token = (await served.tokens.RefreshToken(request)).refresh_token
    failure = await refused(served.tokens.RefreshToken(request))
    assert (failure.code, failure.reason) == ("UNAUTHENTICATED", "REFRESH_TOKEN_REUSED")
    request = pb.RefreshTokenRequest(refresh_token=next_token, client_id="web")
    failure = await refused(served.tokens.RefreshToken(request))
    assert (failure.code, failure.reason) == ("UNAUTHENTICATED", "SESSION_REVOKED")


async def test_retries_have_a_limit(served: Served) -> None:
    served.node.policy = replace(served.node.policy, max_retries=1)
    issued = await served.issue()
    request = pb.RefreshTokenRequest(refresh_token=issued.refresh_token, client_id="web")
    for _ in range(2):
        await served.tokens.RefreshToken(request)
    failure = await refused(served.tokens.RefreshToken(request))
    assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_RETRIES")
    assert failure.retry_after


async def test_without_the_database_or_a_key_there_are_no_tokens() -> None:
    clock = SystemClock()
    sessions = Intercepted((stores := MemoryStores(clock)).sessions)
    async with serving(
        node=Node(clock, stores=stores, sessions=sessions, algorithm=Algorithm.ES256)
    ) as served:
        sessions.before["create"] = raising(StoreUnavailableError(retry_after=1))
        failure = await refused(served.issue())
        assert (failure.code, failure.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
        assert failure.retry_after == 1
        served.node.keyring.signer = lambda: (_ for _ in ()).throw(SigningUnavailableError(retry_after=2))  # type: ignore[method-assign]
        failure = await refused(served.issue(token_types=[ACCESS]))
        assert (failure.code, failure.reason) == ("UNAVAILABLE", "SIGNING_UNAVAILABLE")


# --- RevokeToken ------------------------------------------------------------------------------------------------------


async def test_every_target_revokes(served: Served) -> None:
    for target in ("token", "token_id", "session_id", "subject", "client_id", "everything"):
        issued = await served.issue(subject=f"by-{target}", client_id=f"by-{target}")
        value: Any = {
            "token": issued.access_token,
            "token_id": issued.token_id,
            "session_id": issued.session_id,
            "everything": True,
        }.get(target, f"by-{target}")
        outcome = await served.revoke(**{target: value}, reason=pb.REVOCATION_REASON_LOGOUT, comment="bye")
        assert outcome.cursor == str(served.node.replica.cursor)
        assert (outcome.subscribers_connected, outcome.subscribers_applied) == (0, 0)
        assert (await served.validate(issued.access_token)).reason == pb.INVALID_REASON_REVOKED, target


async def test_revoking_a_refresh_or_session_token_revokes_its_session(served: Served) -> None:
    for kind in ("refresh_token", "session_token"):
        issued = await served.issue(token_types=[ACCESS, REFRESH, SESSION])
        await served.revoke(token=getattr(issued, kind))
        for token in (issued.access_token, issued.refresh_token, issued.session_token):
            assert (await served.validate(token)).reason == pb.INVALID_REASON_REVOKED


@pytest.mark.parametrize(
    "target",
    [{"token": "nonsense"}, {"token": "rt_nonsense"}, {"session_id": UNKNOWN_SESSION}, {"key_id": "unknown"}],
    ids=str,
)
async def test_revoking_an_unknown_token_succeeds(served: Served, target: Any) -> None:
    for _ in range(2):
        assert (await served.revoke(**target)).cursor == str(served.node.replica.cursor)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "target"),
        ({"token": ""}, "target"),
        ({"subject": ""}, "subject"),
        ({"token_id": "x" * 257}, "token_id"),
        ({"session_id": "not-a-uuid"}, "session_id"),
        ({"everything": False}, "everything"),
        ({"subject": "a", "reason": 99}, "reason"),
        ({"subject": "a", "comment": "x" * 513}, "comment"),
        (
            {
                "subject": "a",
                "wait": pb.RevokeTokenRequest.Wait(applied_by_all=True, timeout=Duration(seconds=61)),
            },
            "wait.timeout",
        ),
        (
            {
                "subject": "a",
                "wait": pb.RevokeTokenRequest.Wait(applied_by_all=True, timeout=Duration(seconds=-1)),
            },
            "wait.timeout",
        ),
        (
            {
                "subject": "a",
                "wait": pb.RevokeTokenRequest.Wait(applied_by_all=True, timeout=Duration(nanos=2**31 - 1)),
            },
            "wait.timeout",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_invalid_revocation_is_refused(served: Served, fields: Any, field: str) -> None:
    failure = await refused(served.revoke(**fields))
    assert (failure.code, failure.reason, list(failure.fields)) == (
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        [field],
    )
    assert served.node.replica.applied == 0


async def test_revoke_waits_for_subscribers(served: Served) -> None:
    wait = pb.RevokeTokenRequest.Wait(applied_by_all=True, timeout=Duration(nanos=50_000_000))
    async with served.follow(subscriber_id="v-1") as reader:
        await reader.caught_up()
        outcome = await served.revoke(subject="a", wait=wait)
        assert (outcome.subscribers_connected, outcome.subscribers_applied) == (1, 0)
        request = pb.ConfirmRevocationsRequest(subscriber_id="v-1", applied_cursor=outcome.cursor)
        assert (await served.tokens.ConfirmRevocations(request)).head_cursor == outcome.cursor
        outcome = await served.revoke(token="unknown", wait=pb.RevokeTokenRequest.Wait(applied_by_all=True))
        assert (outcome.subscribers_connected, outcome.subscribers_applied) == (1, 1)
    no_wait = await served.revoke(subject="b", wait=pb.RevokeTokenRequest.Wait(timeout=Duration(seconds=5)))
    assert no_wait.subscribers_connected == 0


async def test_a_key_and_everything_are_for_administrators() -> None:
    class Operator(TrustingAuthorizer):
        def identify(self, peer: Any) -> Caller:
            return Caller("operator", Rights.of(Permission.REVOKE))

    async with serving(authorizer=Operator()) as served:
        for target in ({"everything": True}, {"key_id": "k"}):
            failure = await refused(served.revoke(**target))
            assert (failure.code, failure.metadata) == ("PERMISSION_DENIED", {"permission": "admin.write"})
        assert (await served.revoke(subject="a")).cursor


# --- ConfirmRevocations -----------------------------------------------------------------------------------------------


async def test_every_subscriber_may_read_the_head(served: Served) -> None:
    head = await served.tokens.ConfirmRevocations(pb.ConfirmRevocationsRequest())
    assert head.head_cursor == str(served.node.replica.cursor)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"applied_cursor": "nonsense"}, "applied_cursor"),
        ({"applied_cursor": "abcdefgh:-1"}, "applied_cursor"),
        ({"subscriber_id": "x" * 129}, "subscriber_id"),
        ({"client_version": "x" * 65}, "client_version"),
        ({"client_version": "a\nb"}, "client_version"),
    ],
)
async def test_invalid_confirmation_is_refused(served: Served, fields: Any, field: str) -> None:
    failure = await refused(served.tokens.ConfirmRevocations(pb.ConfirmRevocationsRequest(**fields)))
    assert (failure.code, list(failure.fields)) == ("INVALID_ARGUMENT", [field])


async def test_only_cursors_of_this_log_confirm_and_never_beyond_its_head(served: Served) -> None:
    async with served.follow(subscriber_id="v-1") as reader:
        await reader.caught_up()
        outcome = await served.revoke(subject="a")
        for cursor in ("", "otherlog:5"):
            await served.tokens.ConfirmRevocations(
                pb.ConfirmRevocationsRequest(subscriber_id="v-1", applied_cursor=cursor)
            )
            assert served.node.subscribers.counts(1) == (1, 0)
        far = outcome.cursor.rpartition(":")[0] + ":1000"
        await served.tokens.ConfirmRevocations(
            pb.ConfirmRevocationsRequest(subscriber_id="v-1", applied_cursor=far)
        )
        assert served.node.subscribers.counts(1) == (1, 1)
        assert served.node.subscribers.counts(2) == (1, 0)


async def test_report_of_validations_is_bounded_and_never_refused(served: Served) -> None:
    """A confirmation proves freshness, so nothing in the statistics beside it may make the call fail."""
    request = pb.ConfirmRevocationsRequest(
        subscriber_id="v-1",
        client_version="python/9",
        validated=2**63 - 1,
        refusals=[
            pb.ConfirmRevocationsRequest.Refusals(reason="EXPIRED", count=2),
            pb.ConfirmRevocationsRequest.Refusals(reason="FROM_THE_FUTURE", count=1),
            pb.ConfirmRevocationsRequest.Refusals(reason="REVOKED", count=-5),
        ],
    )
    await served.tokens.ConfirmRevocations(request)
    crowded = pb.ConfirmRevocationsRequest(subscriber_id="v-1")
    for _ in range(5000):
        crowded.refusals.add(reason="EXPIRED", count=1)
    await served.tokens.ConfirmRevocations(crowded)
    (total,) = served.node.core.validations.all().values()
    assert (total.client_version, total.validated) == ("python/9", 1_000_000_000)
    assert total.refusals == {"EXPIRED": 34, "OTHER": 4969}


async def test_released_client_confirms_without_a_report(served: Served) -> None:
    released = released_message("0.1.0", "ConfirmRevocationsRequest")
    async with served.follow(subscriber_id="v-1") as reader:
        await reader.caught_up()
        cursor = (await served.revoke(subject="a")).cursor
        call = served.channel.unary_unary(
            "/token_service.v1.TokenService/ConfirmRevocations",
            request_serializer=released.SerializeToString,
            response_deserializer=released_message("0.1.0", "ConfirmRevocationsResponse").FromString,
        )
        response = await call(released(subscriber_id="v-1", applied_cursor=cursor))
        assert (response.head_cursor, served.node.subscribers.counts(1)) == (cursor, (1, 1))
    assert not served.node.core.validations.all()


# --- SessionService ---------------------------------------------------------------------------------------------------


async def test_session_has_its_fields(served: Served) -> None:
    issued = await served.issue(
        scopes=["a"],
        device_id="phone",
        confirmation=token_pb2.Confirmation(x5t_s256="b" * 43),
        auth_context=token_pb2.AuthContext(acr="mfa"),
    )
    get = session_service_pb2.GetSessionRequest(session_id=issued.session_id)
    session = (await served.sessions.GetSession(get)).session
    assert (session.session_id, session.subject, session.client_id, session.device_id) == (
        issued.session_id, "alice", "web", "phone",
    )  # fmt: skip
    assert session.state == session_service_pb2.SESSION_STATE_ACTIVE
    assert session.auth_context.acr == "mfa"
    assert session.confirmation.x5t_s256 == "b" * 43
    assert session.idle_expire_time == issued.refresh_token_expire_time
    assert not session.HasField("revoke_time")
    await served.revoke(session_id=issued.session_id, reason=pb.REVOCATION_REASON_LOGOUT)
    session = (await served.sessions.GetSession(get)).session
    assert session.state == session_service_pb2.SESSION_STATE_REVOKED
    assert session.revoke_reason == pb.REVOCATION_REASON_LOGOUT
    assert session.HasField("revoke_time")


async def test_sessions_are_listed_in_pages(served: Served) -> None:
    made = [(await served.issue(device_id="d")).session_id for _ in range(5)]
    await served.revoke(session_id=made[0])
    filters: list[dict[str, Any]] = [{"subject": "alice"}, {"client_id": "web"}, {"device_id": "d"}]
    for filtered in filters:
        listed: list[str] = []
        token = ""
        while True:
            request = session_service_pb2.ListSessionsRequest(**filtered, page_size=2, page_token=token)
            page = await served.sessions.ListSessions(request)
            listed += [session.session_id for session in page.sessions]
            token = page.next_page_token
            if not token:
                break
        assert listed == made[::-1]
    request = session_service_pb2.ListSessionsRequest(subject="alice", active_only=True)
    active = (await served.sessions.ListSessions(request)).sessions
    assert [session.session_id for session in active] == made[:0:-1]


async def test_a_session_is_extended_up_to_the_policy(served: Served) -> None:
    issued = await served.issue()
    before = (
        await served.sessions.GetSession(session_service_pb2.GetSessionRequest(session_id=issued.session_id))
    ).session
    request = session_service_pb2.ExtendSessionRequest(
        session_id=issued.session_id, client_id="web", idle_timeout=Duration(seconds=60)
    )
    session = (await served.sessions.ExtendSession(request)).session
    assert session.idle_expire_time == before.idle_expire_time  # never an earlier one
    for timeout in (None, Duration(seconds=315_576_000_000)):
        request = session_service_pb2.ExtendSessionRequest(
            session_id=issued.session_id, client_id="web", idle_timeout=timeout
        )
        session = (await served.sessions.ExtendSession(request)).session
        idle = session.idle_expire_time.seconds - session.last_use_time.seconds
        assert idle == served.node.policy.idle_timeout


@pytest.mark.parametrize(
    ("method", "fields", "code", "what"),
    [
        ("GetSession", {"session_id": UNKNOWN_SESSION}, "NOT_FOUND", "SESSION_NOT_FOUND"),
        ("GetSession", {"session_id": ""}, "INVALID_ARGUMENT", "session_id"),
        ("GetSession", {"session_id": "{" + UNKNOWN_SESSION + "}"}, "INVALID_ARGUMENT", "session_id"),
        ("ListSessions", {}, "INVALID_ARGUMENT", "filter"),
        ("ListSessions", {"subject": ""}, "INVALID_ARGUMENT", "subject"),
        ("ListSessions", {"subject": "a", "page_size": -1}, "INVALID_ARGUMENT", "page_size"),
        ("ListSessions", {"subject": "a", "page_size": 201}, "INVALID_ARGUMENT", "page_size"),
        ("ListSessions", {"subject": "a", "page_token": "é"}, "INVALID_ARGUMENT", "page_token"),
        ("ListSessions", {"subject": "a", "page_token": "AAAA"}, "INVALID_ARGUMENT", "page_token"),
        (
            "ExtendSession",
            {"session_id": UNKNOWN_SESSION, "client_id": "web"},
            "NOT_FOUND",
            "SESSION_NOT_FOUND",
        ),
        ("ExtendSession", {"session_id": UNKNOWN_SESSION}, "INVALID_ARGUMENT", "client_id"),
        ("ExtendSession", {"session_id": "x"}, "INVALID_ARGUMENT", "session_id"),
        (
            "ExtendSession",
            {"session_id": UNKNOWN_SESSION, "idle_timeout": Duration(seconds=-5)},
            "INVALID_ARGUMENT",
            "idle_timeout",
        ),
        (
            "ExtendSession",
            {"session_id": UNKNOWN_SESSION, "idle_timeout": Duration(seconds=2**62)},
            "INVALID_ARGUMENT",
            "idle_timeout",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_invalid_session_requests_are_refused(
    served: Served, method: str, fields: Any, code: str, what: str
) -> None:
    request = getattr(session_service_pb2, f"{method}Request")(**fields)
    failure = await refused(getattr(served.sessions, method)(request))
    assert failure.code == code
    assert what in (failure.reason, *failure.fields)


async def test_a_session_of_another_client_is_not_found_and_not_extended(served: Served) -> None:
    issued = await served.issue()
    get = session_service_pb2.GetSessionRequest(session_id=issued.session_id)
    before = (await served.sessions.GetSession(get)).session
    request = session_service_pb2.ExtendSessionRequest(session_id=issued.session_id, client_id="another")
    failure = await refused(served.sessions.ExtendSession(request))
    assert (failure.code, failure.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")
    after = (await served.sessions.GetSession(get)).session
    assert (after.idle_expire_time, after.last_use_time) == (before.idle_expire_time, before.last_use_time)


async def test_an_extension_answers_only_the_state_and_the_times(served: Served) -> None:
    issued = await served.issue(device_id="phone", scopes=["read"], auth_context={"acr": "gold"})
    request = session_service_pb2.ExtendSessionRequest(session_id=issued.session_id, client_id="web")
    session = (await served.sessions.ExtendSession(request)).session
    assert {field.name for field, _ in session.ListFields()} == {
        "session_id",
        "state",
        "create_time",
        "last_use_time",
        "idle_expire_time",
        "absolute_expire_time",
    }


async def test_a_session_that_has_ended_is_not_extended(served: Served) -> None:
    issued = await served.issue()
    await served.revoke(session_id=issued.session_id)
    request = session_service_pb2.ExtendSessionRequest(session_id=issued.session_id, client_id="web")
    failure = await refused(served.sessions.ExtendSession(request))
    assert (failure.code, failure.reason) == ("FAILED_PRECONDITION", "SESSION_NOT_ACTIVE")


# --- KeyService -------------------------------------------------------------------------------------------------------


async def test_public_key_set_is_returned(served: Served) -> None:
    answer = await served.keys.GetKeySet(key_service_pb2.GetKeySetRequest())
    (key,) = answer.key_set.keys
    assert (key.kty, key.crv, key.alg, key.use) == ("EC", "P-256", "ES256", "sig")
    assert key.kid == served.node.keyring.signer().key_id
    assert (answer.key_set.issuer, answer.key_set.revision) == (ISSUER, served.node.keyring.revision)


async def test_listed_signing_keys_contain_no_secret(served: Served) -> None:
    page = await served.keys.ListSigningKeys(key_service_pb2.ListSigningKeysRequest())
    (key,) = page.signing_keys
    assert key.state == key_service_pb2.SIGNING_KEY_STATE_ACTIVE
    assert key.algorithm == "ES256"
    assert key.public_key.kid == key.key_id
    assert key.HasField("create_time")
    assert not key.HasField("revoke_time")
    assert not page.next_page_token


async def test_signing_keys_come_in_pages(served: Served) -> None:
    keyring = served.node.keyring
    original = keyring.signing_keys()[0]
    many = [replace(original, key_id=f"k{number:03}", create_time=100.0 + number // 2) for number in range(7)]
    keyring.signing_keys = lambda: sorted(  # type: ignore[method-assign]
        many, key=lambda key: (key.create_time, key.key_id), reverse=True
    )
    listed: list[str] = []
    token = ""
    while True:
        request = key_service_pb2.ListSigningKeysRequest(page_size=2, page_token=token)
        page = await served.keys.ListSigningKeys(request)
        listed += [key.key_id for key in page.signing_keys]
        token = page.next_page_token
        if not token:
            break
    assert listed == [f"k{number:03}" for number in reversed(range(7))]


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"page_size": -1}, "page_size"), ({"page_size": 201}, "page_size"), ({"page_token": "!"}, "page_token"),
     ({"page_token": "AAAA"}, "page_token"), ({"page_token": "é"}, "page_token"), ({"page_token": "_" * 20}, "page_token")],
)  # fmt: skip
async def test_invalid_page_of_keys_is_refused(served: Served, fields: Any, field: str) -> None:
    failure = await refused(served.keys.ListSigningKeys(key_service_pb2.ListSigningKeysRequest(**fields)))
    assert (failure.code, list(failure.fields)) == ("INVALID_ARGUMENT", [field])


class SettableClock(SystemClock):
    """The clocks of this machine, with an offset of the wall clock."""

    offset = 0.0

    def now(self) -> float:
        return SystemClock.now() + self.offset
