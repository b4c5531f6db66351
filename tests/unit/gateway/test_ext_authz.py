from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode

import grpc
import pytest

from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from tests.unit.gateway.conftest import MakeGateway, allowed, ask_envoy, bearer, denied, envoy_request
from token_service.client._internal.challenges import parse_challenges
from token_service.gateway.envoy.external_auth_pb2 import CheckRequest, CheckResponse
from token_service.gateway.identity import NAMES


async def test_identity_headers_are_set_or_removed(service: FakeTokenService, gateway: MakeGateway) -> None:
    async with gateway() as parts:
        token = bearer(service, sub="alice", scope="read write", sid="session-1")
        headers, removed = allowed(await ask_envoy(parts, token))
        assert headers == {
            "x-token-subject": "alice",
            "x-token-client-id": "web",
            "x-token-scope": "read write",
            "x-token-session-id": "session-1",
        }
        assert removed == {"x-token-claims"}

        headers, removed = allowed(await ask_envoy(parts, bearer(service, sub="bob", scope="", sid=...)))
        assert headers == {"x-token-subject": "bob", "x-token-client-id": "web"}
        assert removed == {"x-token-scope", "x-token-session-id", "x-token-claims"}


async def test_responses_of_two_tokens_are_not_mixed(
    service: FakeTokenService, gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("token_service.gateway.ext_authz._MAX_KNOWN", 2)
    async with gateway() as parts:
        tokens = {f"user-{number}": bearer(service, sub=f"user-{number}") for number in range(7)}
        for _ in range(3):
            for subject, token in tokens.items():
                headers, _removed = allowed(await ask_envoy(parts, token))
                assert headers["x-token-subject"] == subject
        assert len(parts.ext_authz._young) + len(parts.ext_authz._old) <= 4


async def test_public_route_passes_without_identity(service: FakeTokenService, gateway: MakeGateway) -> None:
    async with gateway() as parts:
        allowed(await ask_envoy(parts, bearer(service)))
        for token in (None, bearer(service), "Bearer nonsense"):
            headers, removed = allowed(await ask_envoy(parts, token, public="true"))
            assert (headers, removed) == ({}, set(NAMES))


async def test_missing_token_is_challenged(gateway: MakeGateway) -> None:
    async with gateway('[resource]\nresource = "https://api.example/v1"') as parts:
        for authorization in (None, "Basic YTpi", "Bearer", "Bearer a b", "Bearer a,Bearer b"):
            status, headers = denied(await ask_envoy(parts, authorization))
            assert status == 401
            challenges = parse_challenges(headers["www-authenticate"])
            assert [each.scheme for each in challenges] == ["bearer"]
            assert challenges[0].parameters == {
                "resource_metadata": "https://api.example/.well-known/oauth-protected-resource/v1"
            }


@pytest.mark.parametrize(
    ("extensions", "claims", "status", "error"),
    [
        ({"scopes": "read write"}, {"scope": "read write"}, 200, ""),
        ({"scopes": "read admin"}, {"scope": "read"}, 403, "insufficient_scope"),
        ({"audience": "other"}, {"aud": ["other"]}, 200, ""),
        ({"audience": "other"}, {}, 401, "invalid_token"),
        ({"roles": "admin editor"}, {"roles": ["editor"]}, 200, ""),
        ({"roles": "admin"}, {"roles": ["editor"]}, 403, "insufficient_scope"),
        ({"groups": "staff"}, {"groups": ["staff"]}, 200, ""),
        ({"groups": "staff"}, {}, 403, "insufficient_scope"),
        ({"entitlements": "beta"}, {"entitlements": "beta"}, 200, ""),
        ({"entitlements": "beta"}, {"roles": ["beta"]}, 403, "insufficient_scope"),
        ({"acr_values": "high"}, {"auth_ctx": {"acr": "high"}}, 200, ""),
        ({"acr_values": "high"}, {"auth_ctx": {"acr": "low"}}, 401, "insufficient_user_authentication"),
        ({"max_age": "60"}, {"auth_ctx": {"auth_time": 1}}, 401, "insufficient_user_authentication"),
        ({"route": "orders"}, {"scope": "read"}, 200, ""),
        ({"route": "orders"}, {"scope": "write"}, 403, "insufficient_scope"),
    ],
)
async def test_requirements_of_a_route(
    service: FakeTokenService,
    gateway: MakeGateway,
    extensions: dict[str, str],
    claims: dict[str, object],
    status: int,
    error: str,
) -> None:
    async with gateway('[routes.orders]\nscopes = ["read"]') as parts:
        response = await ask_envoy(parts, bearer(service, **claims), **extensions)
        if status == 200:
            allowed(response)
            return
        found, headers = denied(response)
        assert found == status
        assert parts.validator.counters.rejected.total() == 1
        assert parse_challenges(headers["www-authenticate"])[0].parameters["error"] == error


async def test_requirement_for_an_issuer(service: FakeTokenService, gateway: MakeGateway) -> None:
    other = '[[foreign_issuers]]\nissuer = "https://other.example"\njwks_url = "https://127.0.0.1:1/jwks"'
    async with gateway(other, ready=False) as parts:
        assert await eventually(lambda: parts.validator.status().fresh)
        allowed(await ask_envoy(parts, bearer(service), issuer=service.issuer))
        status, headers = denied(await ask_envoy(parts, bearer(service), issuer="https://other.example"))
        assert status == 401
        assert 'error="invalid_token"' in headers["www-authenticate"]


@pytest.mark.parametrize(
    "extensions",
    [
        {"scope": "read"},
        {"Scopes": "read"},
        {"route": "nowhere"},
        {"route": "orders", "public": "true"},
        {"public": "yes"},
        {"public": ""},
        {"public": "true", "scopes": "read"},
        {"audience": ""},
        {"issuer": "https://unknown.example"},
        {"max_age": "1m"},
        {"max_age": "-1"},
        {"max_age": "²"},
        {"scopes": 'a"b'},
    ],
    ids=str,
)
async def test_wrong_extensions_refuse_every_request(
    service: FakeTokenService,
    gateway: MakeGateway,
    caplog: pytest.LogCaptureFixture,
    extensions: dict[str, str],
) -> None:
    async with gateway('[routes.orders]\nscopes = ["read"]') as parts:
        for _ in range(3):
            status, headers = denied(await ask_envoy(parts, bearer(service), **extensions))
            assert (status, "www-authenticate" in headers) == (403, False)
        lines = [each for each in caplog.messages if "the proxy asks for requirements that are wrong" in each]
        assert len(lines) == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/orders", 200),
        ("/orders/?next=//a/../b", 200),
        ("/", 200),
        ("/package.Service/Method", 200),
        ("/a%20b", 200),
        ("", 400),
        ("*", 400),
        ("https://api.example/orders", 400),
        ("//orders", 400),
        ("/a/../orders", 400),
        ("/a/./orders", 400),
        ("/a%2Forders", 400),
        ("/a%2e%2e/orders", 200),
        ("/a/%2e%2e/orders", 400),
        ("/a/%252e%252e/orders", 400),
        ("/a\\orders", 400),
        ("/orders%0a", 400),
        ("/orders;v=1", 400),
        ("/orders%3Fa", 400),
        ("/orders%253Fa", 400),
        ("/\u00e4", 400),
        ("/%ff", 400),
        ("/" + "a" * 5000, 200),
        ("/" + "a" * 5000 + "//", 400),
    ],
)
async def test_ambiguous_path_is_refused(
    service: FakeTokenService, gateway: MakeGateway, path: str, status: int
) -> None:
    async with gateway() as parts:
        for extensions, token in (({}, bearer(service)), ({"public": "true"}, None)):
            response = await ask_envoy(parts, token, path=path, **extensions)
            if status == 200:
                allowed(response)
            else:
                assert denied(response)[0] == status


async def test_second_readings_pass_by_configuration(service: FakeTokenService, gateway: MakeGateway) -> None:
    async with gateway("[paths]\nallow_second_readings = true") as parts:
        allowed(await ask_envoy(parts, bearer(service), path="/orders;v=1"))
        assert denied(await ask_envoy(parts, bearer(service), path="/a/../b"))[0] == 400
        assert denied(await ask_envoy(parts, bearer(service), path="/a;/../b"))[0] == 400


async def test_method_in_lower_case_is_refused(service: FakeTokenService, gateway: MakeGateway) -> None:
    async with gateway() as parts:
        for method in ("get", ""):
            assert denied(await ask_envoy(parts, bearer(service), method=method))[0] == 400


async def test_preflight_passes_only_where_the_route_says_so(gateway: MakeGateway) -> None:
    preflight = {"origin": "https://app.example", "access-control-request-method": "PUT"}
    async with gateway() as parts:
        headers, removed = allowed(
            await ask_envoy(parts, method="OPTIONS", headers=preflight, cors_preflight="true", scopes="read")
        )
        assert (headers, removed) == ({}, set(NAMES))
        for options in (
            {"method": "OPTIONS", "headers": preflight},
            {"method": "OPTIONS", "headers": preflight, "cors_preflight": "false"},
            {"method": "GET", "headers": preflight, "cors_preflight": "true"},
            {
                "authorization": "Bearer a",
                "method": "OPTIONS",
                "headers": preflight,
                "cors_preflight": "true",
            },
            {"method": "OPTIONS", "headers": {"origin": "https://app.example"}, "cors_preflight": "true"},
            {
                "method": "OPTIONS",
                "headers": {"access-control-request-method": "PUT"},
                "cors_preflight": "true",
            },
        ):
            assert denied(await ask_envoy(parts, **options))[0] == 401


async def test_header_that_looks_like_an_identity_header_is_refused(
    service: FakeTokenService, gateway: MakeGateway
) -> None:
    async with gateway() as parts:
        for name in ("x_token_subject", "x-token_client-id", "x_token-scope", "X_TOKEN_CLAIMS"):
            response = await ask_envoy(parts, bearer(service), headers={name: "admin"})
            assert denied(response)[0] == 400
            assert denied(await ask_envoy(parts, public="true", headers={name: "admin"}))[0] == 400
        _, removed = allowed(await ask_envoy(parts, public="true", headers={"x-token-subject": "admin"}))
        assert "x-token-subject" in removed
        allowed(await ask_envoy(parts, bearer(service), headers={"x_other": "1"}))


async def test_claims_header(service: FakeTokenService, gateway: MakeGateway) -> None:
    async with gateway(
        "[identity]\nclaims = true\nclaims_max_bytes = 512\nremove_credentials = true"
    ) as parts:
        headers, removed = allowed(await ask_envoy(parts, bearer(service, sub="alice", roles=["a"], sid=...)))
        claims = json.loads(urlsafe_b64decode(headers["x-token-claims"] + "=="))
        assert (claims["sub"], claims["roles"]) == ("alice", ["a"])
        assert removed == {"x-token-session-id", "authorization", "dpop"}

        headers, removed = allowed(await ask_envoy(parts, bearer(service, roles=["a" * 400])))
        assert "x-token-claims" in removed
        assert "x-token-claims" not in headers
        assert parts.identity.claims_omitted == 1


@pytest.mark.parametrize(
    ("setting", "kind", "status"),
    [
        ("error_response", "error_response", 503),
        ("denied_503", "denied_response", 503),
        ("denied_403", "denied_response", 403),
    ],
)
async def test_stale_gateway_never_allows(
    service: FakeTokenService, gateway: MakeGateway, setting: str, kind: str, status: int
) -> None:
    async with gateway(f'[responses]\nenvoy_unavailable = "{setting}"', ready=False) as parts:
        await parts.validator.close()
        verdict, encoded = await parts.ext_authz.check(envoy_request(bearer(service)))
        response = CheckResponse.FromString(encoded)
        assert (verdict.outcome, verdict.reason) == ("unavailable", "stale")
        assert response.WhichOneof("http_response") == kind
        found = getattr(response, kind)
        assert found.status.code == status
        assert response.status.code == grpc.StatusCode.UNAVAILABLE.value[0]
        headers = {option.header.key: option.header.value for option in found.headers}
        assert headers == {"retry-after": "1", "cache-control": "no-store"}
        assert found.body == "temporarily unavailable; retry later"


async def test_overload_deadline_and_defects_never_allow(
    service: FakeTokenService, gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway() as parts:
        checker = parts.checker

        async def reason() -> tuple[str, str | None]:
            verdict, encoded = await parts.ext_authz.check(envoy_request(bearer(service)))
            return verdict.reason, CheckResponse.FromString(encoded).WhichOneof("http_response")

        checker.waiting = 1000
        assert await reason() == ("overloaded", "error_response")
        checker.waiting = 0

        async def slow(*_arguments: object, **_options: object) -> None:
            raise TimeoutError

        monkeypatch.setattr(checker, "_validate", slow)
        assert await reason() == ("deadline", "error_response")

        async def broken(*_arguments: object, **_options: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(checker, "_validate", broken)
        assert await reason() == ("internal", "error_response")
        assert checker.waiting == 0


async def test_revoked_token_is_refused(service: FakeTokenService, gateway: MakeGateway) -> None:
    async with gateway() as parts:
        token = service.mint.token(time.time(), jti="stolen")
        allowed(await ask_envoy(parts, f"Bearer {token}"))
        service.revoke(token_id="stolen")

        async def is_refused() -> bool:
            response = await ask_envoy(parts, f"Bearer {token}")
            return response.WhichOneof("http_response") == "denied_response"

        await eventually(is_refused)
        assert denied(await ask_envoy(parts, f"Bearer {token}"))[0] == 401


async def test_raw_headers_are_read_and_joined(service: FakeTokenService, gateway: MakeGateway) -> None:
    async with gateway() as parts:
        token = bearer(service, sub="alice")

        async def ask(*values: str) -> CheckResponse:
            request = envoy_request()
            for value in values:
                header = request.attributes.request.http.header_map.headers.add()
                header.key, header.raw_value = "authorization", value.encode()
            return CheckResponse.FromString((await parts.ext_authz.check(request))[1])

        assert allowed(await ask(token))[0]["x-token-subject"] == "alice"
        assert denied(await ask(token, token))[0] == 401


def test_unknown_fields_of_the_request_are_skipped() -> None:
    request = envoy_request("Bearer a")
    data = request.SerializeToString() + b"\x9a\x06\x03abc"  # field 99
    assert CheckRequest.FromString(data).attributes.request.http.method == "GET"
