"""What the ASGI and the WSGI middleware have in common."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.support.http_askers import KINDS, ask, judge_for, made
from tests.support.token_mint import Mint
from token_service.client.proof_rules import ProofRules
from token_service.client.requirements import Requirements
from token_service.client.resource_metadata import ResourceMetadata
from token_service.errors import ConfigurationError

MINT = Mint("ES256")
pytestmark = pytest.mark.parametrize("kind", KINDS)
WELL_KNOWN = "/.well-known/oauth-protected-resource"


def bearer(**changes: Any) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {MINT.token(time.time(), **changes)}")]


async def test_a_rule_may_have_more_requirements_than_scopes(kind: str) -> None:
    middleware = made(
        kind,
        MINT,
        scopes={
            "/orders": ["read"],
            "/orders/*": Requirements(scopes=["read"], roles=["clerk"]),
            "POST /payments": Requirements(acr_values=["urn:mfa"], max_age=300),
            "/partner": Requirements(audience="partner"),
            "/elsewhere": Requirements(issuer="https://other.example"),
        },
    )
    now = int(time.time())
    cases: list[tuple[str, str, dict[str, Any], tuple[int, str | None]]] = [
        ("GET", "/orders", {}, (200, None)),
        ("GET", "/orders/1", {}, (403, "insufficient_scope")),
        ("GET", "/orders/1", {"roles": ["clerk"]}, (200, None)),
        ("GET", "/orders/1", {"roles": ["clerk"], "scope": "x"}, (403, "insufficient_scope")),
        ("GET", "/payments", {}, (200, None)),
        ("POST", "/payments", {}, (401, "insufficient_user_authentication")),
        ("POST", "/payments", {"auth_ctx": {"acr": "urn:mfa", "auth_time": now}}, (200, None)),
        (
            "POST",
            "/payments",
            {"auth_ctx": {"acr": "urn:mfa", "auth_time": now - 301}},
            (401, "insufficient_user_authentication"),
        ),
        ("GET", "/partner", {}, (401, "invalid_token")),
        ("GET", "/partner", {"aud": "partner"}, (200, None)),
        ("GET", "/elsewhere", {}, (401, "invalid_token")),
    ]
    for method, target, claims, expected in cases:
        answer = await ask(kind, MINT, target, bearer(**claims), method=method, middleware=middleware)
        assert (method, target, claims, (answer.status, answer.error)) == (method, target, claims, expected)
    step_up = await ask(kind, MINT, "/payments", bearer(), method="POST", middleware=middleware)
    [challenge] = step_up.values("www-authenticate")
    assert challenge.endswith('acr_values="urn:mfa", max_age="300"')


async def test_equal_requirements_of_two_rules_are_no_ambiguity(kind: str) -> None:
    """`/a?b` is read as `/a?b` and as `/a`, which have the same requirements by two rules."""
    rules = {"/a": Requirements(roles=["clerk"]), "/*": Requirements(roles={"clerk"})}
    answer = await ask(kind, MINT, "/a%3Fb", bearer(roles=["clerk"]), scopes=rules)
    assert answer.status == 200
    answer = await ask(kind, MINT, "/a%3Fb", bearer(roles=["clerk"]), scopes={**rules, "/a": ["read"]})
    assert answer.status == 400


async def test_claims_are_those_of_the_request(kind: str) -> None:
    middleware = made(kind, MINT, public=["/healthz"])
    for target, headers, body in [
        ("/orders", bearer(sub="alice"), "alice"),
        ("/healthz", bearer(sub="alice"), "public"),
        ("/orders", bearer(sub="bob"), "bob"),
        ("/healthz", [], "public"),
    ]:
        answer = await ask(kind, MINT, target, headers, middleware=middleware)
        assert (answer.status, answer.body) == (200, body)


async def test_an_outage_tells_strangers_nothing(kind: str) -> None:
    judge = judge_for(kind, MINT)
    judge.is_stale = True
    answer = await ask(kind, MINT, headers=bearer(), judge=judge, realm="shop")
    assert (answer.status, answer.body) == (503, "temporarily unavailable; retry later")
    assert {name for name, _ in answer.headers} == {
        "content-length",
        "content-type",
        "cache-control",
        "retry-after",
    }


async def test_refusals_are_not_cached(kind: str) -> None:
    for headers in ([], bearer(scope=""), [("authorization", "Bearer x"), ("authorization", "Bearer y")]):
        answer = await ask(kind, MINT, headers=headers, default_scopes=["read"])
        assert answer.status in {400, 401, 403}
        assert answer.values("cache-control") == ["no-store"]
        assert answer.values("content-type") == ["text/plain; charset=utf-8"]


# --- Metadata of the resource (RFC 9728) ------------------------------------------------------------------------------


async def test_the_metadata_of_the_resource_are_served_without_a_token(kind: str) -> None:
    metadata = ResourceMetadata(
        resource="https://api.example",
        authorization_servers=["https://tokens.example"],
        scopes=["orders:write", "orders:read"],
        name="Orders",
        documentation="https://api.example/docs",
    )
    middleware = made(kind, MINT, resource_metadata=metadata)
    answer = await ask(kind, MINT, WELL_KNOWN, middleware=middleware)
    assert (answer.status, answer.values("content-type")) == (200, ["application/json"])
    assert answer.values("access-control-allow-origin") == ["*"]
    assert json.loads(answer.body) == {
        "resource": "https://api.example",
        "authorization_servers": ["https://tokens.example"],
        "scopes_supported": ["orders:read", "orders:write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Orders",
        "resource_documentation": "https://api.example/docs",
    }
    refused = await ask(kind, MINT, middleware=middleware)
    assert refused.values("www-authenticate") == [
        f'Bearer resource_metadata="https://api.example{WELL_KNOWN}"'
    ]
    for method, target in (("POST", WELL_KNOWN), ("GET", f"{WELL_KNOWN}/x"), ("GET", f"{WELL_KNOWN}%3Fx")):
        assert (await ask(kind, MINT, target, method=method, middleware=middleware)).status in {400, 401}
    assert (await ask(kind, MINT, WELL_KNOWN)).status == 401


async def test_metadata_say_which_proofs_are_accepted(kind: str) -> None:
    metadata = ResourceMetadata(resource="https://api.example")
    proofs = ProofRules(origins=["https://api.example"])
    answer = await ask(kind, MINT, WELL_KNOWN, resource_metadata=metadata, proofs=proofs)
    algorithms = json.loads(answer.body)["dpop_signing_alg_values_supported"]
    assert "ES256" in algorithms
    assert "HS256" not in algorithms


async def test_another_server_may_serve_the_metadata(kind: str) -> None:
    url = f"https://api.example{WELL_KNOWN}/orders"
    answer = await ask(kind, MINT, resource_metadata=url)
    assert answer.values("www-authenticate") == [f'Bearer resource_metadata="{url}"']
    assert (await ask(kind, MINT, f"{WELL_KNOWN}/orders", resource_metadata=url)).status == 401


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ("https://api.example", WELL_KNOWN),
        ("https://api.example/", WELL_KNOWN),
        ("https://api.example:8443/shop", f"{WELL_KNOWN}/shop"),
        ("https://api.example/shop/v1", f"{WELL_KNOWN}/shop/v1"),
    ],
)
async def test_the_path_of_the_metadata_follows_that_of_the_resource(
    kind: str, resource: str, path: str
) -> None:
    """RFC 9728, section 3.1."""
    metadata = ResourceMetadata(resource=resource)
    assert metadata.url == resource.split("/", 3)[0] + "//" + resource.split("/")[2] + path
    answer = await ask(kind, MINT, path, resource_metadata=metadata)
    assert json.loads(answer.body)["resource"] == resource


@pytest.mark.parametrize(
    "wrong",
    [
        {"resource": "api.example"},
        {"resource": "https://api.example?x=1"},
        {"resource": "https://api.example#x"},
        {"resource": 'https://api.example/"'},
        {"resource": "https://api.example", "scopes": "read"},
        {"resource": "https://api.example", "authorization_servers": "https://tokens.example"},
    ],
    ids=range(6),
)
def test_unusable_metadata_are_refused(kind: str, wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        ResourceMetadata(**wrong)


@pytest.mark.parametrize("realm", ['a"b', "a\\b", "a\r\nb", "é"])
def test_unusable_realm_is_refused(kind: str, realm: str) -> None:
    with pytest.raises(ConfigurationError):
        made(kind, MINT, realm=realm)


# --- CORS preflights --------------------------------------------------------------------------------------------------

PREFLIGHT = [("origin", "https://shop.example"), ("access-control-request-method", "POST")]


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("OPTIONS", "/orders", PREFLIGHT, 200),
        ("OPTIONS", "/orders", [*PREFLIGHT, ("access-control-request-headers", "authorization")], 200),
        ("GET", "/orders", PREFLIGHT, 401),
        ("POST", "/orders", PREFLIGHT, 401),
        ("OPTIONS", "/orders", PREFLIGHT[:1], 401),
        ("OPTIONS", "/orders", PREFLIGHT[1:], 401),
        ("OPTIONS", "/orders", [*PREFLIGHT, ("authorization", "Bearer x")], 401),
        ("OPTIONS", "/orders%2Fx", PREFLIGHT, 400),
        ("options", "/orders", PREFLIGHT, 400),
    ],
)
async def test_a_preflight_reaches_the_application_if_configured(
    kind: str, method: str, target: str, headers: Any, status: int
) -> None:
    options: Any = {"scopes": {"/orders": ["read"]}, "method": method}
    answer = await ask(kind, MINT, target, headers, pass_preflight=True, **options)
    assert answer.status == status
    assert answer.body == "public" if status == 200 else answer.body
    assert (await ask(kind, MINT, target, headers, **options)).status == (400 if status == 400 else 401)
