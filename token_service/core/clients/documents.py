"""Client metadata documents: the rules for their URLs and their content, and the port that fetches them.

A client that is not registered may describe itself in a JSON document at an https URL, which is its client id
(draft-ietf-oauth-client-id-metadata-document-03). The document is written by a stranger: it can't give rights,
audiences, a classification or other origins, and its client can't use a shared secret.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from token_service.core.clients.client import (
    AUTHORIZATION_CODE,
    REFRESH_TOKEN,
    AuthMethod,
    Client,
    ClientMetadata,
    SecurityProfile,
)
from token_service.core.clients.uris import is_dns_name, problem_of_redirect_uri, problem_of_web_uri
from token_service.core.clients.validation import MAX_REDIRECT_URIS, check_metadata
from token_service.core.limits import MAX_CLIENT_ID, Checks
from token_service.errors import InvalidRequestError
from token_service.tokens import strict_json

SCHEME: Final = "https://"
"""The beginning of every id of a client that describes itself."""
MAX_DOCUMENT: Final = 10 * 1024
"""Bytes of a document. The draft recommends 5 KiB (section 8.7); keys of RSA in `jwks` need more."""

_GRANT_TYPES: Final = (AUTHORIZATION_CODE, REFRESH_TOKEN)
_METHODS: Final = (AuthMethod.NONE, AuthMethod.PRIVATE_KEY_JWT)
_FORBIDDEN: Final = ("client_secret", "client_secret_expires_at")
_DOTS: Final = (".", "..")


class UnusableDocumentError(Exception):
    """A document was not fetched, or does not describe a client. The text is for the log of the node only.

    A caller that learned it could explore the network of the node.
    """


@dataclass(frozen=True, slots=True)
class FetchedDocument:
    """A document as its server returned it, and the seconds for which it counts as current."""

    body: bytes
    lifetime: float


class DocumentSource(Protocol):
    """Fetches documents."""

    async def fetch(self, url: str) -> FetchedDocument:
        """Return the document at a URL, at most `MAX_DOCUMENT` bytes. The caller limits the time.

        Reaches only hosts of the public Internet, and follows no redirect. Raises `UnusableDocumentError`.
        """
        ...


@dataclass(frozen=True, slots=True)
class DocumentRules:
    """What the operator allows to clients that describe themselves."""

    hosts: tuple[str, ...] = ()
    """Hosts that documents and keys may be at, each a DNS name or `*.` and a domain. Empty: any."""
    scopes: tuple[str, ...] = ()
    """Scopes that these clients may get at the token endpoint; a document may name fewer."""
    classification: str = ""
    """The classification of these clients. Empty: as in the policy file."""
    security_profile: SecurityProfile = SecurityProfile.NONE

    def allow(self, url: str) -> bool:
        """Tell whether a document may be at a URL, by its host."""
        return not self.hosts or self._names(_host(url))

    def allow_keys(self, jwks_uri: str, url: str) -> bool:
        """Tell whether the keys of the client at a URL may be at `jwks_uri`: at the same host, or at a named one.

        Without this rule a stranger's document would lead the fetches of keys to any other host.
        """
        host = _host(jwks_uri)
        return host == _host(url) or self._names(host)

    def _names(self, host: str) -> bool:
        return any(
            host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
            for pattern in self.hosts
        )


def problem_of_host_pattern(pattern: str) -> str | None:
    """Return why a text is no pattern of `DocumentRules.hosts`; None: it is one."""
    return None if is_dns_name(pattern.removeprefix("*.")) else "is neither a DNS name nor *. and a domain"


def problem_of_document_url(text: str) -> str | None:
    """Return why a text can't be the id of a client that describes itself (section 3 of the draft); None: it can.

    Besides the rules of the draft, the URL has the one form that is compared exactly, and the DNS name of a host.
    """
    if len(text) > MAX_CLIENT_ID:
        return f"is longer than {MAX_CLIENT_ID} bytes"
    problem = problem_of_web_uri(text, loopback=False)
    if problem is not None:
        return problem
    url = urlsplit(text)
    if not url.path:
        return "has no path"
    if text.endswith("?"):
        return "has an empty query"
    if any(segment.replace("%2E", ".") in _DOTS for segment in url.path.split("/")):
        return "has a path with . or .. as a segment"
    if "." not in (url.hostname or "") or _is_address(url.hostname or ""):
        return "has no full DNS name as its host"
    return None


def client_of_document(url: str, body: bytes, rules: DocumentRules, now: float) -> Client:
    """Return the client that the document at a URL describes.

    Grant types, scopes and redirect URIs that this service does not allow are left out. Other faults raise
    `UnusableDocumentError`.
    """
    try:
        content = strict_json.decode_object(body)
    except ValueError:  # its text may repeat parts of the document
        raise UnusableDocumentError("it is not a JSON object without duplicate names") from None
    if content.get("client_id") != url:
        raise UnusableDocumentError("its client_id is not exactly the URL")
    for name in _FORBIDDEN:
        if name in content:
            raise UnusableDocumentError(f"it has {name}, which such a document must not have")
    metadata = _metadata(content, rules)
    checks = Checks()
    check_metadata(checks, metadata, {rules.classification})
    try:
        checks.done()
    except InvalidRequestError as error:
        found = "; ".join(f"{each.field} {each.description}" for each in error.violations)
        raise UnusableDocumentError(found) from None
    if metadata.jwks_uri and not rules.allow_keys(metadata.jwks_uri, url):
        raise UnusableDocumentError("its jwks_uri is at another host, which is not allowed")
    names = ClientMetadata.__struct_fields__
    return Client(
        **{name: getattr(metadata, name) for name in names}, client_id=url, create_time=now, update_time=now
    )


def _metadata(content: dict[str, Any], rules: DocumentRules) -> ClientMetadata:
    method = _text(content, "token_endpoint_auth_method") or AuthMethod.NONE.value
    if method not in _METHODS:
        raise UnusableDocumentError(f"token_endpoint_auth_method is none of {', '.join(_METHODS)}")
    if _text(content, "subject_type") == "pairwise":
        raise UnusableDocumentError("subject_type is pairwise, which only registered clients can have")
    grant_types = _texts(content, "grant_types") if "grant_types" in content else (AUTHORIZATION_CODE,)
    jwks = content.get("jwks", {})
    if not isinstance(jwks, dict):
        raise UnusableDocumentError("jwks is no JSON object")
    scope = _text(content, "scope")
    return ClientMetadata(
        client_name=_text(content, "client_name"),
        token_endpoint_auth_method=AuthMethod(method),
        jwks=strict_json.encode(jwks).decode() if "jwks" in content else "",
        jwks_uri=_text(content, "jwks_uri"),
        grant_types=_allowed(grant_types, _GRANT_TYPES),
        redirect_uris=_redirect_uris(_texts(content, "redirect_uris")),
        scopes=_allowed(rules.scopes, scope.split(" ")) if scope else rules.scopes,
        classification=rules.classification,
        dpop_bound_access_tokens=_flag(content, "dpop_bound_access_tokens"),
        tls_client_certificate_bound_access_tokens=_flag(
            content, "tls_client_certificate_bound_access_tokens"
        ),
        require_pushed_authorization_requests=_flag(content, "require_pushed_authorization_requests"),
        security_profile=rules.security_profile,
    )


def _redirect_uris(uris: Sequence[str]) -> tuple[str, ...]:
    """Return the allowed ones. Documents also list `http://localhost`, for services that allow it."""
    if len(uris) > MAX_REDIRECT_URIS:
        raise UnusableDocumentError(f"redirect_uris has more than {MAX_REDIRECT_URIS} items")
    return tuple(uri for uri in dict.fromkeys(uris) if problem_of_redirect_uri(uri) is None)


def _allowed(values: Sequence[str], allowed: Collection[str]) -> tuple[str, ...]:
    return tuple(value for value in dict.fromkeys(values) if value in allowed)


def _text(content: dict[str, Any], name: str) -> str:
    value = content.get(name, "")
    if not isinstance(value, str):
        raise UnusableDocumentError(f"{name} is no text")
    return value


def _flag(content: dict[str, Any], name: str) -> bool:
    value = content.get(name, False)
    if not isinstance(value, bool):
        raise UnusableDocumentError(f"{name} is neither true nor false")
    return value


def _texts(content: dict[str, Any], name: str) -> tuple[str, ...]:
    value = content.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UnusableDocumentError(f"{name} is no list of texts")
    return tuple(value)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
