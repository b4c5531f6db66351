"""The metadata of a provider (OpenID Connect Discovery 1.0, section 3; RFC 8414)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from token_service.bff.config import is_secure_url
from token_service.bff.failures import ProviderUnavailableError
from token_service.tokens.assertions import ASSERTION_ALGORITHMS

_MAX_URL: Final = 2048


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """What the discovery document says of the provider."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str
    """Empty if the provider has none; likewise the two below."""
    revocation_endpoint: str
    pushed_authorization_request_endpoint: str
    requires_pushed_requests: bool
    """Whether every authorization request has to be pushed (RFC 9126, section 5)."""
    names_issuer: bool
    """Whether every authorization response has `iss` (RFC 9207, section 3)."""


def parse_metadata(document: dict[str, Any], issuer: str, method: str) -> ProviderMetadata:
    """Return the metadata of `issuer` for a client that authenticates with `method`.

    Raises `ProviderUnavailableError` for a document of another issuer, and for a provider that lacks what this client
    needs. The message names the member.
    """
    if document.get("issuer") != issuer:
        raise ProviderUnavailableError("the discovery document is of another issuer than the configured one")
    _require_one_of(document, "response_types_supported", {"code"})
    _require_one_of(document, "code_challenge_methods_supported", {"S256"})
    _require_one_of(document, "id_token_signing_alg_values_supported", ASSERTION_ALGORITHMS)
    _require_one_of(
        {"token_endpoint_auth_methods_supported": ["client_secret_basic"], **document},
        "token_endpoint_auth_methods_supported",
        {method},
    )
    return ProviderMetadata(
        authorization_endpoint=_url(document, "authorization_endpoint"),
        token_endpoint=_url(document, "token_endpoint"),
        jwks_uri=_url(document, "jwks_uri"),
        end_session_endpoint=_url(document, "end_session_endpoint", optional=True),
        revocation_endpoint=_url(document, "revocation_endpoint", optional=True),
        pushed_authorization_request_endpoint=_url(
            document, "pushed_authorization_request_endpoint", optional=True
        ),
        requires_pushed_requests=document.get("require_pushed_authorization_requests") is True,
        names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _url(document: dict[str, Any], name: str, *, optional: bool = False) -> str:
    value = document.get(name, "" if optional else None)
    if value == "" and optional:
        return ""
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= _MAX_URL
        or not (value.isascii() and value.isprintable())
        or "#" in value
        or not is_secure_url(value)
    ):
        raise ProviderUnavailableError(f"the discovery document has no usable {name}")
    return value


def _require_one_of(document: dict[str, Any], name: str, wanted: Collection[str]) -> None:
    """Refuse a provider whose list `name` has none of the wanted values. A missing list says nothing."""
    supported = document.get(name)
    if isinstance(supported, list) and not any(each in supported for each in wanted):
        raise ProviderUnavailableError(f"{name} of the provider has none of {', '.join(sorted(wanted))}")
