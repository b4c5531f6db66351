"""Clients with the FAPI 2.0 Security Profile at the HTTP endpoints, by their own setting or by that of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import jwt
import pytest
from msgspec import structs

from tests.unit.core.jwts import claims_of
from tests.unit.tokens.dpop_proofs import ProofMaker
from tests.unit.web.oauth.browser_login import (
    ISSUER,
    PARAMETERS,
    REDIRECT,
    VERIFIER,
    Login,
    challenge_of,
    location,
)
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.client.dpop_key import DpopKey
from token_service.core.access.caller import Caller
from token_service.core.access.proved_keys import ProvedKeys
from token_service.core.clients.client import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    REFRESH_TOKEN,
    AuthMethod,
    SecurityProfile,
)
from token_service.core.grants.authorization import AuthorizationGrantCommand
from token_service.core.grants.codes import CODE_TTL
from token_service.core.issuing.raising import RaiseCommand, SessionRaiser
from token_service.core.issuing.terms import Terms
from token_service.core.login.pushed import REQUEST_URI_TTL
from token_service.errors import (
    BindingRequiredError,
    ClientNotFoundError,
    InvalidRequestError,
    PolicyViolationError,
    PushedRequestRequiredError,
)
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import AuthContext, Confirmation, TokenKind

FAPI = SecurityProfile.FAPI2
KEY = Confirmation(jkt="k" * 43)
CERTIFICATE = Confirmation(x5t_s256="c" * 43)
CLIENT: dict[str, Any] = {
    "grant_types": (AUTHORIZATION_CODE, REFRESH_TOKEN, CLIENT_CREDENTIALS),
    "redirect_uris": (REDIRECT,),
    "scopes": ("openid", "read"),
    "first_party": True,
}


@pytest.fixture(params=["its own", "of the service"])
async def login(request: pytest.FixtureRequest) -> AsyncIterator[Login]:
    """An application with the client `app`, whose profile is its own or that of the service."""
    for_all = FAPI if request.param == "of the service" else SecurityProfile.NONE
    app = await OAuthApp.start(algorithm=Algorithm.ES256, security_profile=for_all)
    own = SecurityProfile.NONE if for_all is FAPI else FAPI
    await app.register_assertion_client("app", **CLIENT, security_profile=own)
    yield Login(app)
    await app.close()


async def push(login: Login, client_id: str = "app", **changes: Any) -> httpx.Response:
    values = {**PARAMETERS, "client_id": client_id, **login.app.assertion(client_id), **changes}
    return await login.app.post("/par", {name: value for name, value in values.items() if value is not None})


async def authorize(login: Login, browser: httpx.AsyncClient) -> dict[str, str]:
    """Return the parameters of the response to a pushed request."""
    pushed = await push(login)
    assert pushed.status_code == 201, pushed.text
    parameters = {"client_id": "app", "request_uri": pushed.json()["request_uri"]}
    begun = await browser.get("/authorize", params=parameters)
    return location(await browser.get(await login.accept(challenge_of(begun))))


async def test_request_that_was_not_pushed_is_refused(login: Login) -> None:
    answer = location(await login.begin(login.browser()))
    assert (answer["error"], answer["iss"], answer["state"]) == ("invalid_request", ISSUER, "s-1")
    assert "/par" in answer["error_description"]


async def test_response_to_a_pushed_request_names_the_issuer(login: Login) -> None:
    answer = await authorize(login, login.browser())
    assert (answer["iss"], answer["state"]) == (ISSUER, "s-1")
    assert answer["code"]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"redirect_uri": None}, "redirect_uri"),
        ({"code_challenge": None}, "code_challenge"),
        ({"code_challenge_method": "plain"}, "S256"),
        ({"response_type": "code id_token"}, ""),
    ],
)
async def test_pushed_request_is_complete(login: Login, changes: dict[str, Any], part: str) -> None:
    answer = await push(login, **changes)
    assert answer.status_code == 400
    assert part in answer.json()["error_description"]


async def test_request_is_pushed_by_an_authenticated_client(login: Login) -> None:
    answer = await push(login, client_assertion=None, client_assertion_type=None)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_assertion_for_an_endpoint_is_refused(login: Login) -> None:
    for audience in (f"{ISSUER}/token", [ISSUER]):
        proof = login.app.assertion("app", aud=audience)
        answer = await login.app.post("/token", {"grant_type": CLIENT_CREDENTIALS, **proof})
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_code_lives_for_a_minute_and_request_uri_for_less_than_ten(login: Login) -> None:
    assert CODE_TTL <= 60
    assert REQUEST_URI_TTL < 600
    code = (await authorize(login, login.browser()))["code"]
    login.app.clock.elapsed += 60
    answer = await login.exchange(code, **login.app.assertion("app"))
    assert (answer.json()["error"], "expired" in answer.json()["error_description"]) == (
        "invalid_grant",
        True,
    )


async def test_token_request_without_a_key_is_refused_and_keeps_the_code(login: Login) -> None:
    code = (await authorize(login, login.browser()))["code"]
    for _ in range(2):  # the first refusal has not used up the code
        answer = await login.exchange(code, **login.app.assertion("app"))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
        assert answer.json()["reason"] == "BINDING_REQUIRED"
    answer = await login.app.post("/token", {"grant_type": CLIENT_CREDENTIALS, **login.app.assertion("app")})
    assert answer.json()["reason"] == "BINDING_REQUIRED"


async def test_code_flow_ends_with_tokens_bound_to_the_key_of_the_client(login: Login) -> None:
    key, token_url = ProofMaker(), f"{ISSUER}/token"
    code = (await authorize(login, login.browser()))["code"]

    async def send(nonce: str | None, **parameters: Any) -> httpx.Response:
        claims: dict[str, Any] = {} if nonce is None else {"nonce": nonce}
        proof = key.proof(token=None, method="POST", uri=token_url, now=login.app.clock.now(), **claims)
        values = {**login.app.assertion("app"), **parameters}
        return await login.app.post("/token", values, headers={"DPoP": proof})

    exchange = {
        "grant_type": AUTHORIZATION_CODE,
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
    }
    refused = await send(None, **exchange)
    assert (refused.status_code, refused.json()["error"]) == (400, "use_dpop_nonce")
    nonce = refused.headers["dpop-nonce"]
    tokens = (await send(nonce, **exchange)).json()
    assert tokens["token_type"] == "DPoP"
    assert claims_of(tokens["access_token"])["cnf"] == {"jkt": key.jkt}
    assert jwt.get_unverified_header(tokens["id_token"])["alg"] == "ES256"
    refresh = {"grant_type": REFRESH_TOKEN, "refresh_token": tokens["refresh_token"]}
    again = (await send(nonce, **refresh)).json()
    assert claims_of(again["access_token"])["cnf"] == {"jkt": key.jkt}
    assert again["refresh_token"] == tokens["refresh_token"]
    without = await login.app.post("/token", {**login.app.assertion("app"), **refresh})
    assert without.json()["reason"] == "BINDING_REQUIRED"


@pytest.mark.parametrize(
    ("algorithm", "error"), [(Algorithm.RS256, "invalid_dpop_proof"), (Algorithm.PS256, "use_dpop_nonce")]
)
async def test_proof_is_signed_with_an_algorithm_of_the_profile(
    login: Login, algorithm: Algorithm, error: str
) -> None:
    proof = DpopKey.generate(algorithm).proof("POST", f"{ISSUER}/token", now=login.app.clock.now())
    values = {"grant_type": CLIENT_CREDENTIALS, **login.app.assertion("app")}
    answer = await login.app.post("/token", values, headers={"DPoP": proof})
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_token_is_bound_to_the_certificate_of_a_request_without_a_proof(login: Login) -> None:
    client = login.app.node.clients.get("app")
    assert client is not None
    certificate = ProvedKeys(certificate_thumbprint="c" * 43)
    assert certificate.confirmation(client) == CERTIFICATE
    assert ProvedKeys(jkt="k" * 43, certificate_thumbprint="c" * 43).confirmation(client) == KEY
    plain = structs.replace(client, security_profile=SecurityProfile.NONE)
    assert certificate.confirmation(plain) == Confirmation()


async def test_issued_token_must_be_bound_to_a_key_or_a_certificate(login: Login) -> None:
    with pytest.raises(BindingRequiredError):
        await login.app.node.issue(client_id="app", scopes=("read",))
    for confirmation in (KEY, CERTIFICATE):
        issued = await login.app.node.issue(client_id="app", scopes=("read",), confirmation=confirmation)
        assert issued.access_token


async def test_refresh_token_is_not_rotated(login: Login) -> None:
    node = login.app.node
    kinds = frozenset({TokenKind.ACCESS, TokenKind.REFRESH})
    issued = await node.issue(client_id="app", scopes=("read",), kinds=kinds, confirmation=KEY)
    for _ in range(3):
        login.app.clock.elapsed += 3600
        again = await node.refresh(issued.refresh_token, client_id="app", keys=ProvedKeys(jkt=KEY.jkt))
        assert again.refresh_token == issued.refresh_token
        assert again.access_token


async def test_login_service_makes_no_code_for_a_client_that_must_push(login: Login) -> None:
    command = AuthorizationGrantCommand(
        client_id="app",
        redirect_uri=REDIRECT,
        code_challenge=PARAMETERS["code_challenge"],
        subject="alice",
        scopes=("read",),
    )
    grants = login.app.node.core.oauth.authorization_grants
    with pytest.raises(PushedRequestRequiredError):
        await grants.create(Caller.system(), command, login.app.clock.now())


async def test_session_opened_before_the_profile_is_not_refreshed_without_a_key() -> None:
    app = await OAuthApp.start(algorithm=Algorithm.ES256)
    node = app.node
    client = await app.register_assertion_client("app", **CLIENT)
    kinds = frozenset({TokenKind.ACCESS, TokenKind.REFRESH})
    issued = await node.issue(client_id="app", scopes=("read",), kinds=kinds)

    async def change(profile: SecurityProfile) -> None:
        await node.core.client_administration.update(
            Caller.system(), client.client_id, {"security_profile": profile}, app.clock.now()
        )

    await change(FAPI)
    with pytest.raises(BindingRequiredError):
        await node.refresh(issued.refresh_token, client_id="app")
    await change(SecurityProfile.NONE)
    app.clock.elapsed += 3600  # no retry of a token that was replaced
    assert (await node.refresh(issued.refresh_token, client_id="app")).access_token
    await app.close()


async def test_session_without_a_key_is_not_raised_for_a_client_with_the_profile() -> None:
    app = await OAuthApp.start(algorithm=Algorithm.ES256)
    node = app.node
    await app.register_assertion_client("app", **CLIENT)
    before = AuthContext("pwd")
    kinds = frozenset({TokenKind.ACCESS, TokenKind.REFRESH})
    issued = await node.issue(client_id="app", scopes=("read",), kinds=kinds, auth_context=before)
    command = RaiseCommand(
        session_id=UUID(issued.session_id),
        client_id="app",
        subject="alice",
        scopes=("read",),
        audience=(ISSUER,),
        before=before,
        auth_context=AuthContext("mfa"),
        grant_id="code-1",
        expire_time=app.clock.now() + 60,
    )
    raiser = SessionRaiser(
        node.session_store,
        node.core.ports.stores.used_ids,
        node.minter,
        node.keyring,
        Terms(node.issuer._clients, node.issuer._rates, node.issuer._risk),
        node.audit,
    )

    async def change(profile: SecurityProfile) -> None:
        await node.core.client_administration.update(
            Caller.system(), "app", {"security_profile": profile}, app.clock.now()
        )

    await change(FAPI)
    with pytest.raises(BindingRequiredError):
        await raiser.grant(Caller.system(), command, app.clock.now())
    await change(SecurityProfile.NONE)  # the refusal has not used up the grant
    assert (await raiser.grant(Caller.system(), command, app.clock.now())).access_token
    await app.close()


async def test_pushing_can_be_required_alone(app: OAuthApp) -> None:
    login = await Login.of(app, require_pushed_authorization_requests=True)
    assert location(await login.begin(login.browser()))["error"] == "invalid_request"
    pushed = await app.post("/par", PARAMETERS)
    parameters = {"client_id": "app", "request_uri": pushed.json()["request_uri"]}
    browser = login.browser()
    begun = await browser.get("/authorize", params=parameters)
    answer = location(await browser.get(await login.accept(challenge_of(begun))))
    assert (await login.exchange(answer["code"])).json()["token_type"] == "Bearer"


@pytest.mark.parametrize(
    ("setting", "wrong", "right"),
    [
        ("dpop_bound_access_tokens", CERTIFICATE, KEY),
        ("tls_client_certificate_bound_access_tokens", KEY, CERTIFICATE),
    ],
)
async def test_tokens_are_bound_as_the_client_is_registered(
    app: OAuthApp, setting: str, wrong: Confirmation, right: Confirmation
) -> None:
    await app.register("app", **{setting: True})
    for confirmation in (Confirmation(), wrong):
        with pytest.raises(BindingRequiredError, match=setting):
            await app.node.issue(client_id="app", confirmation=confirmation)
    assert (await app.node.issue(client_id="app", confirmation=right)).access_token
    assert (await app.token("app")).json()["reason"] == "BINDING_REQUIRED"


async def test_profile_is_refused_where_tokens_are_signed_with_another_algorithm() -> None:
    app = await OAuthApp.start(algorithm=Algorithm.RS256)
    with pytest.raises(InvalidRequestError, match="TOKEN_SERVICE_SIGNING_ALGORITHM"):
        await app.register_assertion_client("app", **CLIENT, security_profile=FAPI)
    # Registered at a node with other settings, while the key that signs is still an old one.
    client = await app.register_assertion_client("app", **CLIENT)
    strict = {**{name: getattr(client, name) for name in client.__struct_fields__}, "security_profile": FAPI}
    await app.node.core.ports.stores.clients.save(type(client)(**strict))
    await app.node.clients.refresh()
    with pytest.raises(PolicyViolationError, match="signed with RS256"):
        await app.node.issue(client_id="app", confirmation=KEY)
    await app.close()


class TestProfileOfTheService:
    """Clients that were registered before the service got the profile."""

    @pytest.fixture
    async def app(self) -> AsyncIterator[OAuthApp]:
        before = await OAuthApp.start(algorithm=Algorithm.ES256)
        await before.register("secret")
        await before.register_public("public", **CLIENT | {"grant_types": (AUTHORIZATION_CODE,)})
        await before.register_assertion_client("keyed", **CLIENT, accepts_endpoint_audience=True)
        after = await OAuthApp.start(
            algorithm=Algorithm.ES256, security_profile=FAPI, stores=before.node.stores
        )
        after.secrets = before.secrets
        await after.node.clients.refresh()
        yield after
        await after.close()
        await before.close()

    async def test_weaker_methods_of_authentication_are_refused(self, app: OAuthApp) -> None:
        answer = await app.token("secret")
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
        events = app.node.audit.named("client.authentication_failed")
        assert events[-1]["problem"] == "its security profile does not allow client_secret_basic"
        answer = await app.post("/par", {**PARAMETERS, "client_id": "public"})
        assert answer.status_code == 401

    async def test_their_clients_get_no_tokens_from_services_either(self, app: OAuthApp) -> None:
        for client_id in ("secret", "public"):
            with pytest.raises(PolicyViolationError, match="private_key_jwt and tls_client_auth"):
                await app.node.issue(client_id=client_id, confirmation=KEY)
        issued = await app.node.issue(client_id="keyed", scopes=("read",), confirmation=KEY)
        assert issued.access_token

    async def test_endpoint_is_no_audience_whatever_the_client_is_registered_with(
        self, app: OAuthApp
    ) -> None:
        proof = app.assertion("keyed", aud=f"{ISSUER}/token")
        answer = await app.post("/token", {"grant_type": CLIENT_CREDENTIALS, **proof})
        assert answer.json()["error"] == "invalid_client"

    async def test_clients_must_be_registered(self, app: OAuthApp) -> None:
        with pytest.raises(ClientNotFoundError):
            await app.node.issue(client_id="unknown", confirmation=KEY)

    async def test_registration_of_a_weaker_client_is_refused(self, app: OAuthApp) -> None:
        with pytest.raises(InvalidRequestError, match="token_endpoint_auth_method"):
            await app.register("other")
        assert (
            await app.node.core.client_administration.get(Caller.system(), "secret")
        ).security_profile is (SecurityProfile.NONE)

    async def test_discovery_announces_the_accepted_methods(self, app: OAuthApp) -> None:
        upstreams = app.node.core.oauth.login.upstreams
        path = "/.well-known/oauth-authorization-server"
        assert "require_pushed_authorization_requests" not in (await app.http.get(path)).json()
        upstreams.current = {"inhouse": upstreams.challenge("https://login.example/in")}
        document = (await app.http.get(path)).json()
        assert document["require_pushed_authorization_requests"] is True
        assert document["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
        assert document["revocation_endpoint_auth_methods_supported"] == ["private_key_jwt"]
        assert document["introspection_endpoint_auth_methods_supported"] == ["private_key_jwt", "Bearer"]
        for endpoint in ("token", "introspection", "revocation"):
            algorithms = document[f"{endpoint}_endpoint_auth_signing_alg_values_supported"]
            assert algorithms == ["PS256", "ES256", "EdDSA", "Ed25519"]
        assert document["dpop_signing_alg_values_supported"] == ["PS256", "ES256", "EdDSA"]
        assert document["id_token_signing_alg_values_supported"] == ["ES256"]
        assert document["authorization_response_iss_parameter_supported"] is True


async def test_discovery_of_a_service_without_the_profile_says_that_pushing_is_free(app: OAuthApp) -> None:
    login = await Login.of(app)
    document = (await login.app.http.get("/.well-known/openid-configuration")).json()
    assert document["require_pushed_authorization_requests"] is False
    assert AuthMethod.CLIENT_SECRET_BASIC in document["token_endpoint_auth_methods_supported"]
