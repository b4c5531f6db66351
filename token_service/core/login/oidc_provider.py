"""The port to an OpenID Connect provider, and the rules for its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from token_service.tokens.key_set import KeySet


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderMetadata:
    """The part of a discovery document that a login needs (OpenID Connect Discovery 1.0, section 3)."""

    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str = ""
    end_session_endpoint: str = ""
    names_issuer: bool = False
    """Whether each authorization response has `iss` (RFC 9207, section 3)."""

    @classmethod
    def of(cls, document: Mapping[str, Any], issuer: str) -> ProviderMetadata:
        """Return the metadata in a discovery document, which must name exactly this issuer. Raises `ValueError`."""
        if document.get("issuer") != issuer:
            raise ValueError("the discovery document is of another issuer")
        urls: dict[str, str] = {}
        for name in ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "end_session_endpoint"):
            value = document.get(name, "")
            if not isinstance(value, str) or "#" in value:
                raise ValueError(f"{name} of the discovery document is no URL")
            urls[name] = value
        if not urls["authorization_endpoint"] or not urls["token_endpoint"]:
            raise ValueError("the discovery document lacks authorization_endpoint or token_endpoint")
        return cls(
            names_issuer=document.get("authorization_response_iss_parameter_supported") is True, **urls
        )


class ProviderRefusedError(Exception):
    """The token endpoint answered with an error (RFC 6749, section 5.2)."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Provider(Protocol):
    """An OpenID Connect provider at which this service is registered. Each answer is bounded in size and time."""

    async def discover(self) -> ProviderMetadata:
        """Return the current metadata. Raises `UpstreamUnavailableError`."""
        ...

    async def exchange(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the answer of the token endpoint to a form, to which the client authentication is added.

        Raises `ProviderRefusedError`, `UpstreamUnavailableError`.
        """
        ...

    async def userinfo(self, access_token: str) -> Mapping[str, Any]:
        """Return the claims at the userinfo endpoint. Raises `UpstreamUnavailableError`."""
        ...

    async def keys(self, key_id: str | None) -> KeySet:
        """Return the keys of the provider. See `KeySource.keys`."""
        ...
