"""Bad input of every kind at every method, as raw bytes: a typed error, a clean log, and a node that still serves."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from tests.integration.calls import STRONG, Api, Failure, refused
from tests.integration.nodes import Node
from token_service.v1 import key_service_pb2, session_service_pb2, token_service_pb2

METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for module in (token_service_pb2, session_service_pb2, key_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
STREAMING = "/token_service.v1.TokenService/StreamRevocations"
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node(env={"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", "TOKEN_SERVICE_LOG_LEVEL": "debug"}) as node:
        yield node


@pytest.fixture
async def api(node: Node) -> AsyncIterator[Api]:
    async with Api(node.grpc_address) as api:
        yield api
        issued = await api.issue()
        assert await api.why(issued.access_token, consistency=STRONG) == ""


async def send(api: Api, path: str, data: bytes) -> Failure | bytes:
    """Send raw bytes to a method and return its failure, or its (first) reply as raw bytes."""
    try:
        if path == STREAMING:
            stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = api.channel.unary_stream(path)
            call = stream(data, timeout=60)
            try:
                async for message in call:
                    return bytes(message)
                raise AssertionError("the stream ended without a message")
            finally:
                call.cancel()
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = api.channel.unary_unary(path)
        return bytes(await method(data, timeout=60))
    except grpc.aio.AioRpcError as error:
        return Failure.of(error)


def assert_typed(outcome: Failure | bytes, what: str) -> None:
    """Require a reply, or an error that blames the caller, not the service."""
    if isinstance(outcome, bytes):
        return
    assert outcome.code.name in {
        "INVALID_ARGUMENT",
        "UNAUTHENTICATED",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
        "PERMISSION_DENIED",
    }, f"{what}: {outcome}"
    assert outcome.reason, f"{what}: {outcome}"


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_delimited(number: int, data: bytes) -> bytes:
    return tag(number, 2) + varint(len(data)) + data


def fields(path: str, kind: int) -> list[FieldDescriptor]:
    return [field for field in METHODS[path].input_type.fields if field.type == kind]


@pytest.mark.parametrize("path", METHODS)
async def test_bytes_that_are_no_message_get_a_typed_error(api: Api, path: str) -> None:
    generator = random.Random(path)
    garbage = [
        b"\xff" * 64,
        b"\x0a",  # a length without a value
        b"\x0a\xff\xff\xff\xff\x0f",  # a length beyond the end
        b"\x0b" * 500,  # groups in groups
        b"\x07\x07",  # wire type 7
        b"\x00",  # field number 0
        *(generator.randbytes(generator.randrange(1, 200)) for _ in range(20)),
    ]
    for data in garbage:
        outcome = await send(api, path, data)
        assert_typed(outcome, f"{data[:20]!r}")
    outcome = await send(api, path, b"\x0a\xff\xff\xff\xff\x0f")
    assert isinstance(outcome, Failure)
    assert (outcome.code.name, outcome.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")


@pytest.mark.parametrize("path", METHODS)
async def test_fields_of_the_wrong_kind_get_a_typed_error(api: Api, path: str) -> None:
    """Every field with every wire type, and text that is not UTF-8: protobuf skips or refuses it."""
    for field in METHODS[path].input_type.fields:
        for data in (
            tag(field.number, 0) + varint(2**63),
            tag(field.number, 1) + b"\xff" * 8,
            tag(field.number, 5) + b"\xff" * 4,
            length_delimited(field.number, b""),
            length_delimited(field.number, b"\xff\xfe\x00\xff"),
            length_delimited(field.number, b"\x00" * 3),
        ):
            assert_typed(await send(api, path, data), f"{field.name} {data!r}")
    for field in fields(path, FieldDescriptor.TYPE_STRING):
        outcome = await send(api, path, length_delimited(field.number, b"ok\xff\xfe"))
        assert isinstance(outcome, Failure)
        assert (outcome.code.name, outcome.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    for field in fields(path, FieldDescriptor.TYPE_ENUM):
        assert_typed(await send(api, path, tag(field.number, 0) + varint(4711)), f"{field.name} unknown")
    assert_typed(await send(api, path, tag(536870911, 0) + b"\x01"), "an unknown field")


@pytest.mark.parametrize("path", METHODS)
async def test_an_empty_request_is_invalid_where_fields_are_required(api: Api, path: str) -> None:
    outcome = await send(api, path, b"")
    assert_typed(outcome, "empty")
    if METHODS[path].name not in {
        "GetKeySet", "ListSigningKeys", "PrepareSigningKey", "StreamRevocations", "ConfirmRevocations",
    }:  # fmt: skip
        assert isinstance(outcome, Failure)
        assert outcome.code.name == "INVALID_ARGUMENT"
        assert outcome.violations


@pytest.mark.parametrize("path", METHODS)
async def test_huge_requests_are_refused_with_a_short_message(api: Api, path: str) -> None:
    for field in fields(path, FieldDescriptor.TYPE_STRING):
        if field.name == "token":
            continue  # such a token is inactive and counts as revoked
        outcome = await send(api, path, length_delimited(field.number, b"a" * MEGABYTE))
        assert isinstance(outcome, Failure), field.name
        assert_typed(outcome, field.name)
        assert len(outcome.message) < 1000
    outcome = await send(api, path, length_delimited(1, b"a" * 10 * MEGABYTE))
    assert isinstance(outcome, Failure)
    assert outcome.code.name == "RESOURCE_EXHAUSTED"


async def test_each_violation_names_its_field(api: Api) -> None:
    """Break each field's rule and expect the name of the field."""
    issue = api.tokens.IssueToken
    valid: dict[str, Any] = {"subject": "a", "clientId": "c"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 257}, "subject"),
        ({"subject": "a\x00b"}, "subject"),
        ({"clientId": ""}, "client_id"),
        ({"clientId": "é" * 129}, "client_id"),
        ({"audience": [""]}, "audience[0]"),
        ({"audience": ["a"] * 17}, "audience"),
        ({"audience": ["a", "a"]}, "audience"),
        ({"scopes": ["two words"]}, "scopes[0]"),
        ({"scopes": ["ok", 'quo"te']}, "scopes[1]"),
        ({"scopes": [f"s{n}" for n in range(65)]}, "scopes"),
        ({"tokenTypes": [4711]}, "token_types[0]"),
        ({"deviceId": "d" * 257}, "device_id"),
        ({"nonce": "n" * 257}, "nonce"),
        ({"requestId": "r" * 129}, "request_id"),
        ({"accessTokenTtl": "0s"}, "access_token_ttl"),
        ({"accessTokenTtl": "-5s"}, "access_token_ttl"),
        ({"refreshTokenTtl": "-1s"}, "refresh_token_ttl"),
        ({"authContext": {"acr": "a" * 257}}, "auth_context.acr"),
        ({"authContext": {"amr": ["a"] * 17}}, "auth_context.amr"),
        ({"authContext": {"authTime": "1969-12-31T00:00:00Z"}}, "auth_context.auth_time"),
        ({"confirmation": {"jkt": "short"}}, "confirmation.jkt"),
        ({"confirmation": {"jkt": "a" * 43, "x5tS256": "a" * 43}}, "confirmation"),
        ({"clientContext": {"userAgent": "u" * 513}}, "client_context.user_agent"),
        ({"clientContext": {"ipAddress": "1" * 65}}, "client_context.ip_address"),
    ]
    for change, field in cases:
        request = json_format.ParseDict({**valid, **change}, token_service_pb2.IssueTokenRequest())
        failure = await refused(issue(request, timeout=60))
        assert (failure.code.name, failure.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST"), change
        assert list(failure.violations) == [field], change
    many = json_format.ParseDict(
        {"scopes": ["two words"], "nonce": "n" * 257}, token_service_pb2.IssueTokenRequest()
    )
    failure = await refused(issue(many, timeout=60))
    assert set(failure.violations) == {"subject", "client_id", "scopes[0]", "nonce"}


async def test_timestamps_and_durations_out_of_range_are_refused(api: Api) -> None:
    for change in (
        {"auth_context": {"auth_time": {"seconds": 2**62}}},
        {"auth_context": {"auth_time": {"seconds": -(2**62), "nanos": -5}}},
        {"access_token_ttl": {"seconds": 2**62, "nanos": 999_999_999}},
        {"access_token_ttl": {"seconds": -(2**63)}},
        {"refresh_token_ttl": {"seconds": 315_576_000_000, "nanos": -1}},
    ):
        request = token_service_pb2.IssueTokenRequest(subject="a", client_id="c", **change)
        assert_typed(
            await send(api, "/token_service.v1.TokenService/IssueToken", request.SerializeToString()),
            str(change),
        )
    for seconds in (-1, 0, 61, 2**62):
        waiting = token_service_pb2.RevokeTokenRequest(subject="a")
        waiting.wait.applied_by_all = True
        waiting.wait.timeout.seconds = seconds
        failure = await refused(api.tokens.RevokeToken(waiting, timeout=60))
        assert list(failure.violations) == ["wait.timeout"], seconds


async def test_forbidden_custom_claims_are_refused(api: Api) -> None:
    def nested(depth: int) -> struct_pb2.Struct:
        top = node = struct_pb2.Struct()
        for _ in range(depth):
            node = node.fields["a"].struct_value
        node.fields["b"].bool_value = True
        return top

    async def reason(claims: struct_pb2.Struct) -> str:
        failure = await refused(api.issue(custom_claims=claims))
        assert failure.code.name == "INVALID_ARGUMENT"
        return failure.reason

    def claims(content: dict[str, Any]) -> struct_pb2.Struct:
        made = struct_pb2.Struct()
        made.update(content)
        return made

    assert await reason(claims({"sub": "root"})) == "RESERVED_CLAIM"
    assert await reason(claims({"exp": 1e30})) == "RESERVED_CLAIM"
    assert await reason(nested(20)) == "CUSTOM_CLAIMS_TOO_LARGE"
    assert await reason(claims({"big": "x" * 5000})) == "CUSTOM_CLAIMS_TOO_LARGE"
    assert await reason(claims({f"c{n}": n for n in range(65)})) == "CUSTOM_CLAIMS_TOO_LARGE"
    for number in (float("nan"), float("inf"), float("-inf")):
        assert await reason(claims({"n": number})) == "INVALID_REQUEST"

    # Deeper than protobuf itself accepts.
    def entry(value: bytes) -> bytes:
        return length_delimited(1, b"a") + length_delimited(2, value)

    value = b"\x20\x01"
    for _ in range(2000):
        value = length_delimited(5, length_delimited(1, entry(value)))
    request = token_service_pb2.IssueTokenRequest(subject="a", client_id="c").SerializeToString()
    path = "/token_service.v1.TokenService/IssueToken"
    outcome = await send(api, path, request + length_delimited(7, length_delimited(1, entry(value))))
    assert isinstance(outcome, Failure)
    assert outcome.code.name == "INVALID_ARGUMENT"
    # A value without a kind is not a JSON value.
    empty_value = struct_pb2.Struct(fields={"a": struct_pb2.Value()})
    assert_typed(
        await send(api, path, request + length_delimited(7, empty_value.SerializeToString())), "no kind"
    )


def changed(text: str) -> str:
    """Replace one character, not the last one, where base64url may have unused bits."""
    return f"{text[:40]}{'A' if text[40] != 'A' else 'B'}{text[41:]}"


async def test_malformed_tokens_are_inactive_not_errors(api: Api) -> None:
    issued = await api.issue(token_types=[1, 2, 4])
    head, payload, signature = issued.access_token.split(".")
    cases = {
        "x": "MALFORMED",
        "..": "MALFORMED",
        "a.b.c.d.e": "MALFORMED",
        " " + issued.access_token: "MALFORMED",
        issued.access_token + "=": "MALFORMED",
        f"{head}.{payload}.": "BAD_SIGNATURE",
        f"{head}.{payload}.{changed(signature)}": "BAD_SIGNATURE",
        "rt_": "MALFORMED",
        "rt_" + "A" * 94: "MALFORMED",
        changed(issued.refresh_token): "BAD_SIGNATURE",
        issued.refresh_token.replace("rt_", "st_"): "BAD_SIGNATURE",
        "é" * 100: "MALFORMED",
        "a" * (16 * 1024 + 1): "TOO_LARGE",
        "e" * 4 * MEGABYTE: "TOO_LARGE",
    }
    for token, reason in cases.items():
        expected = {reason, "MALFORMED"} if reason == "BAD_SIGNATURE" else {reason}
        assert await api.why(token) in expected, token[:100]
    assert list((await refused(api.validate(""))).violations) == ["token"]
    for forged in (changed(issued.refresh_token), "rt_", "x" * 20_000, issued.session_token):
        failure = await refused(api.refresh(forged))
        assert (failure.code.name, failure.reason) == ("UNAUTHENTICATED", "REFRESH_TOKEN_INVALID")
        await api.revoke(token=forged)  # RFC 7009: an invalid token counts as revoked
    assert await api.why(issued.refresh_token) in ("", "REVOKED")


async def test_batches_pages_and_cursors_out_of_bounds_are_refused(api: Api) -> None:
    one = token_service_pb2.ValidateTokenRequest(token="x")
    for count in (0, 257):
        batch = token_service_pb2.BatchValidateTokensRequest(requests=[one] * count)
        failure = await refused(api.tokens.BatchValidateTokens(batch, timeout=60))
        assert list(failure.violations) == ["requests"]
    for page_size in (-1, 201, 2**31 - 1):
        listing = session_service_pb2.ListSessionsRequest(subject="a", page_size=page_size)
        assert list((await refused(api.sessions.ListSessions(listing, timeout=60))).violations) == [
            "page_size"
        ]
        keys = key_service_pb2.ListSigningKeysRequest(page_size=page_size)
        assert list((await refused(api.keys.ListSigningKeys(keys, timeout=60))).violations) == ["page_size"]
    for page_token in ("x", "A" * 32, "é", "A" * 10_000):
        listing = session_service_pb2.ListSessionsRequest(subject="a", page_token=page_token)
        outcome = await send(
            api, "/token_service.v1.SessionService/ListSessions", listing.SerializeToString()
        )
        assert_typed(outcome, page_token[:40])
        keys = key_service_pb2.ListSigningKeysRequest(page_token=page_token)
        outcome = await send(api, "/token_service.v1.KeyService/ListSigningKeys", keys.SerializeToString())
        assert_typed(outcome, page_token[:40])
    for session_id in ("x", "{12345678-1234-5678-1234-567812345678}", "g" * 36, "1" * 1000):
        request = session_service_pb2.GetSessionRequest(session_id=session_id)
        assert list((await refused(api.sessions.GetSession(request, timeout=60))).violations) == [
            "session_id"
        ]
    request = session_service_pb2.GetSessionRequest(session_id="12345678-1234-5678-1234-567812345678")
    failure = await refused(api.sessions.GetSession(request, timeout=60))
    assert (failure.code.name, failure.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")
    for cursor in ("x", "é:1", "abcdefgh:-1", "abcdefgh:99999999999999999999", "a" * 10_000):
        data = token_service_pb2.StreamRevocationsRequest(cursor=cursor).SerializeToString()
        assert_typed(await send(api, STREAMING, data), cursor[:40])
        confirm = token_service_pb2.ConfirmRevocationsRequest(subscriber_id="s", applied_cursor=cursor)
        path = "/token_service.v1.TokenService/ConfirmRevocations"
        assert_typed(await send(api, path, confirm.SerializeToString()), cursor[:40])


async def test_invalid_targets_are_refused_and_unknown_ones_accepted(api: Api) -> None:
    for target in (
        {},
        {"token": ""},
        {"token_id": ""},
        {"session_id": "x"},
        {"subject": ""},
        {"everything": False},
    ):
        failure = await refused(api.revoke(**target))
        assert (failure.code.name, failure.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST"), target
        assert failure.violations
    failure = await refused(api.revoke(subject="x", comment="c" * 513))
    assert list(failure.violations) == ["comment"]
    await api.revoke(session_id="12345678-1234-5678-1234-567812345678")
    await api.revoke(token_id="no-such-token")


async def test_unknown_methods_are_unimplemented(api: Api) -> None:
    for path in (
        "/token_service.v1.TokenService/NoSuchMethod",
        "/token_service.v2.TokenService/IssueToken",
        "/nonsense",
    ):
        outcome = await send(api, path, b"")
        assert isinstance(outcome, Failure)
        assert outcome.code.name == "UNIMPLEMENTED"
    # A unary method called as a stream, and a stream called as a unary method.
    outcome = await send(api, "/token_service.v1.TokenService/IssueToken", b"")
    assert isinstance(outcome, Failure)
    as_unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = api.channel.unary_unary(STREAMING)
    failure = await refused(as_unary(b"", timeout=2))
    assert failure.code.name in {"DEADLINE_EXCEEDED", "INTERNAL", "CANCELLED", "UNKNOWN"}


async def test_deadlines_end_calls_with_the_callers_status(api: Api) -> None:
    request = token_service_pb2.IssueTokenRequest(subject="a", client_id="c")
    for timeout in (0.0, 0.0001, 0.001):
        try:
            await api.tokens.IssueToken(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017
