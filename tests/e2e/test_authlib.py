"""authlib's OAuth 2.0 client, with its defaults."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tests.e2e.oauth import CALLBACK, STATE, Client, code_for, refresh_token_of, register
from tests.integration.oauth.node import OAuthNode

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # authlib prefers a fork of httpx
    from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]
    from authlib.integrations.httpx_client import OAuth2Client  # type: ignore[import-untyped]
    from authlib.oauth2.rfc7523 import PrivateKeyJWT  # type: ignore[import-untyped]

KEY_TYPES: Mapping[str, Any] = {"RS256": RSAKey, "ES256": ECKey, "Ed25519": OKPKey}


@pytest.fixture(scope="module")
def clients(service: OAuthNode) -> Mapping[str, Client]:
    """The registered clients by id."""
    grants = ["client_credentials", "refresh_token"]
    made = [
        register(service, "secret", "client_secret_basic", grant_types=grants),
        register(
            service,
            "app",
            "client_secret_basic",
            grant_types=["authorization_code", "refresh_token"],
            redirect_uris=[CALLBACK],
            scopes=["openid", "read"],
        ),
        register(service, "public", "none", grant_types=["refresh_token"]),
        *(
            # authlib's assertions have the URL of the endpoint as their audience.
            register(
                service,
                algorithm,
                "private_key_jwt",
                algorithm=algorithm,
                grant_types=grants,
                accepts_endpoint_audience=True,
            )
            for algorithm in KEY_TYPES
        ),
    ]
    return {client.client_id: client for client in made}


class Session:
    """A client of authlib and the discovery document that it uses."""

    def __init__(self, service: OAuthNode, client: Client, method: str = "") -> None:
        url = f"{service.issuer}/.well-known/openid-configuration"
        self.server = httpx.get(url, timeout=30, trust_env=False).json()
        method = method or client.method
        secret = KEY_TYPES[client.jwk["alg"]].import_key(dict(client.jwk)) if client.jwk else client.secret
        self.http = OAuth2Client(
            client.client_id, secret, token_endpoint_auth_method=method, trust_env=False, timeout=30
        )
        if client.jwk:
            self.http.register_client_auth_method(
                PrivateKeyJWT(headers={"kid": client.jwk["kid"]}, alg=client.jwk["alg"])
            )

    def fetch(self, **parameters: Any) -> Mapping[str, Any]:
        """Get tokens by the grant in the parameters."""
        return self.http.fetch_token(self.server["token_endpoint"], **parameters)


@pytest.fixture
def open_session(service: OAuthNode, clients: Mapping[str, Client]) -> Iterator[Any]:
    """A function that opens a session for a client id and a method."""
    opened: list[Session] = []

    def start(client_id: str, method: str = "") -> Session:
        opened.append(Session(service, clients[client_id], method))
        return opened[-1]

    yield start
    for session in opened:
        session.http.close()


@pytest.mark.parametrize(
    ("client_id", "method"),
    [
        ("secret", "client_secret_basic"),
        ("secret", "client_secret_post"),
        *((algorithm, "private_key_jwt") for algorithm in KEY_TYPES),
    ],
)
def test_client_credentials(open_session: Any, client_id: str, method: str) -> None:
    session = open_session(client_id, method)
    for _ in range(2):  # an assertion is made for each request
        token = session.fetch(grant_type="client_credentials", scope="read")
        assert (token["token_type"], token["scope"]) == ("Bearer", "read")
        assert token["expires_in"] > 0


@pytest.mark.parametrize("client_id", ["secret", "public", "ES256"])
def test_refresh(service: OAuthNode, open_session: Any, client_id: str) -> None:
    session = open_session(client_id)
    first = refresh_token_of(service, client_id)
    token = session.http.refresh_token(session.server["token_endpoint"], refresh_token=first)
    assert token["refresh_token"] != first
    again = session.http.refresh_token(session.server["token_endpoint"])
    assert again["access_token"] != token["access_token"]


def test_code_of_a_login_service(
    service: OAuthNode, clients: Mapping[str, Client], open_session: Any
) -> None:
    location = code_for(service, clients["app"], "v" * 43)
    token = open_session("app").fetch(
        authorization_response=location, redirect_uri=CALLBACK, code_verifier="v" * 43, state=STATE
    )
    assert {"access_token", "refresh_token", "id_token"} <= token.keys()
    with pytest.raises(OAuthError) as caught:
        open_session("app").fetch(
            authorization_response=location, redirect_uri=CALLBACK, code_verifier="v" * 43, state=STATE
        )
    assert caught.value.error == "invalid_grant"


def test_refusal_is_an_error_with_its_code(open_session: Any) -> None:
    with pytest.raises(OAuthError) as caught:
        open_session("secret").fetch(grant_type="client_credentials", scope="admin")
    assert caught.value.error == "invalid_scope"
    assert "admin" in caught.value.description
