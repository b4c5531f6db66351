"""Metadata of a protected resource (RFC 9728)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from token_service.errors import ConfigurationError
from token_service.tokens.dpop import DPOP_ALGORITHMS
from token_service.tokens.http_uri import normalized
from token_service.tokens.strict_json import encode

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceMetadata:
    """What clients that know nothing but the URL of a resource need to get a token for it (RFC 9728, section 2)."""

    resource: str
    """The URL of the resource, e.g. `https://api.example`; it is also the audience that clients ask for (RFC 8707)."""
    authorization_servers: Collection[str] = ()
    """The issuers whose tokens the resource accepts."""
    scopes: Collection[str] = ()
    """The scopes of the resource that clients may ask for."""
    name: str = ""
    """The name of the resource for people."""
    documentation: str = ""
    """The URL of the documentation for developers."""

    def __post_init__(self) -> None:
        for name in ("authorization_servers", "scopes"):
            if isinstance(getattr(self, name), str):
                raise ConfigurationError(f"{name} must be a collection of texts, not one text")
        try:
            normalized(self.resource)
        except ValueError as error:
            raise ConfigurationError(f"the URL of the resource {self.resource!r} is {error}") from None
        if set(self.resource) & set('?#"\\'):
            raise ConfigurationError(f"the URL of the resource {self.resource!r} has a query or a fragment")

    @property
    def path(self) -> str:
        """The path of the document (RFC 9728, section 3.1)."""
        return WELL_KNOWN + urlsplit(self.resource).path.rstrip("/")

    @property
    def url(self) -> str:
        """The URL of the document."""
        parts = urlsplit(self.resource)
        return f"{parts.scheme}://{parts.netloc}{self.path}"

    def document(self, *, accepts_dpop: bool) -> bytes:
        """Return the document, JSON. `accepts_dpop`: the resource accepts DPoP proofs."""
        members: dict[str, Any] = {
            "resource": self.resource,
            "authorization_servers": list(self.authorization_servers),
            "scopes_supported": sorted(self.scopes),
            "bearer_methods_supported": ["header"],
            "resource_name": self.name,
            "resource_documentation": self.documentation,
            "dpop_signing_alg_values_supported": list(DPOP_ALGORITHMS) if accepts_dpop else [],
        }
        return encode({name: value for name, value in members.items() if value})
