"""The discovery document (OpenID Connect Discovery 1.0, section 3; RFC 8414, section 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final
from urllib.parse import urlsplit

from token_service.core.clients.profile import FAPI_ALGORITHMS, FAPI_ASSERTION_ALGORITHMS, FAPI_METHODS
from token_service.core.grants.global_revocation import ENDPOINT as GLOBAL_REVOCATION
from token_service.core.validation.userinfo import CLAIMS_OF_SCOPE, OPENID
from token_service.tokens.assertions import ASSERTION_ALGORITHMS
from token_service.tokens.dpop import DPOP_ALGORITHMS

OPENID_CONFIGURATION: Final = "/.well-known/openid-configuration"
AUTHORIZATION_SERVER: Final = "/.well-known/oauth-authorization-server"
JWKS: Final = "/.well-known/jwks.json"
TOKEN: Final = "/token"
AUTHORIZE: Final = "/authorize"
PAR: Final = "/par"
DEVICE_AUTHORIZATION: Final = "/device_authorization"
DEVICE: Final = "/device"
INTROSPECTION: Final = "/introspect"
REVOCATION: Final = "/revoke"
USERINFO: Final = "/userinfo"
END_SESSION: Final = "/end_session"
LOGOUT_RETURN: Final = f"{END_SESSION}/return"
"""Upstreams send browsers there after their part of a logout."""
ID_JAG_PROFILE: Final = "urn:ietf:params:oauth:grant-profile:id-jag"

CLIENT_DOCUMENTS: Final = "client_id_metadata_document_supported"
"""The member that announces client metadata documents (draft-ietf-oauth-client-id-metadata-document, section 6)."""

_PROVED: Final = ("client_secret_basic", "client_secret_post", "private_key_jwt")
CLIENT_AUTHENTICATION: Final = (*_PROVED, "none")
CERTIFICATE: Final = "tls_client_auth"

_ID_CLAIMS: Final = ("sub", "iss", "aud", "exp", "iat", "auth_time", "acr", "amr", "sid")
REVOCATION_AUTH_METHODS: Final = ("client_secret_basic", "Bearer")


def issuer_path(issuer: str) -> str:
    """Return the path of the issuer, without a slash at the end; empty for an issuer without a path, or that is no URL."""
    return urlsplit(issuer).path.rstrip("/") if "://" in issuer else ""


def discovery_paths(issuer: str) -> tuple[str, ...]:
    """Return the paths of the discovery document.

    The path of the issuer comes before the well-known part in OpenID Connect (section 4), and after it in RFC 8414
    (section 3.1).
    """
    path = issuer_path(issuer)
    return f"{path}{OPENID_CONFIGURATION}", f"{AUTHORIZATION_SERVER}{path}"


def endpoint_urls(issuer: str) -> frozenset[str]:
    """Return the URLs that a client assertion may name as its audience, if its client is allowed to."""
    return frozenset(f"{issuer.rstrip('/')}{path}" for path in (TOKEN, INTROSPECTION, REVOCATION))


def authorization_members(issuer: str, *, must_push: bool) -> dict[str, Any]:
    """Return the members of the document for a service that sends browsers to upstreams.

    `must_push`: every client must push its requests (RFC 9126, section 5).
    """
    base = issuer.rstrip("/")
    return {
        "authorization_endpoint": f"{base}{AUTHORIZE}",
        "pushed_authorization_request_endpoint": f"{base}{PAR}",
        "require_pushed_authorization_requests": must_push,
        "device_authorization_endpoint": f"{base}{DEVICE_AUTHORIZATION}",
        "authorization_response_iss_parameter_supported": True,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
    }


def backchannel_logout_members() -> dict[str, Any]:
    """Return the members for a service that tells clients of logouts (OpenID Connect Back-Channel Logout 1.0)."""
    return {"backchannel_logout_supported": True, "backchannel_logout_session_supported": True}


def discovery_document(
    issuer: str,
    *,
    algorithms: Sequence[str],
    grant_types: Sequence[str],
    grant_profiles: Sequence[str],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the document. It names only what this service does.

    `algorithms` are those of its tokens. `more`: members of optional endpoints.
    """
    base = issuer.rstrip("/")
    return {
        "issuer": issuer,
        "jwks_uri": f"{base}{JWKS}",
        "token_endpoint": f"{base}{TOKEN}",
        "token_endpoint_auth_methods_supported": list(CLIENT_AUTHENTICATION),
        "token_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
        "introspection_endpoint": f"{base}{INTROSPECTION}",
        # RFC 8414, section 2: an access token type is a method, too.
        "introspection_endpoint_auth_methods_supported": [*_PROVED, "Bearer"],
        "introspection_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
        "revocation_endpoint": f"{base}{REVOCATION}",
        "revocation_endpoint_auth_methods_supported": list(CLIENT_AUTHENTICATION),
        "revocation_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
        "userinfo_endpoint": f"{base}{USERINFO}",
        "end_session_endpoint": f"{base}{END_SESSION}",
        "dpop_signing_alg_values_supported": list(DPOP_ALGORITHMS),
        "grant_types_supported": list(grant_types),
        "scopes_supported": [OPENID, *CLAIMS_OF_SCOPE],
        "claims_supported": [*_ID_CLAIMS, *chain.from_iterable(CLAIMS_OF_SCOPE.values())],
        **({"authorization_grant_profiles_supported": list(grant_profiles)} if grant_profiles else {}),
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": list(algorithms),
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "global_token_revocation_endpoint": f"{base}{GLOBAL_REVOCATION}",
        "global_token_revocation_endpoint_auth_methods_supported": list(REVOCATION_AUTH_METHODS),
        **more,
    }


def fapi_members(*, certificates: bool) -> dict[str, Any]:
    """Return the members that differ if the FAPI 2.0 Security Profile is in force for all clients.

    `certificates`: clients can authenticate themselves with a certificate.
    """
    methods = [method for method in FAPI_METHODS if certificates or method != CERTIFICATE]
    algorithms = list(FAPI_ASSERTION_ALGORITHMS)
    members: dict[str, Any] = {"dpop_signing_alg_values_supported": list(FAPI_ALGORITHMS)}
    for endpoint in ("token", "introspection", "revocation"):
        members[f"{endpoint}_endpoint_auth_methods_supported"] = methods
        members[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] = algorithms
    # RFC 8414, section 2: an access token type is a method, too.
    members["introspection_endpoint_auth_methods_supported"] = [*methods, "Bearer"]
    members["global_token_revocation_endpoint_auth_methods_supported"] = ["Bearer"]
    return members


def with_certificates() -> dict[str, Any]:
    """Return the members that differ if client certificates reach this service (RFC 8705, sections 2 and 3)."""
    return {
        "tls_client_certificate_bound_access_tokens": True,
        "token_endpoint_auth_methods_supported": [*CLIENT_AUTHENTICATION, CERTIFICATE],
        "introspection_endpoint_auth_methods_supported": [*_PROVED, "Bearer", CERTIFICATE],
        "revocation_endpoint_auth_methods_supported": [*CLIENT_AUTHENTICATION, CERTIFICATE],
    }
