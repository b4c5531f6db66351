"""Rules for the settings of a client. Each limit is a number here; a setting that nothing enforces is no field."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Final

from token_service.core.clients.client import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    GRANT_TYPES,
    AuthMethod,
    ClientMetadata,
)
from token_service.core.clients.sectors import check_sector
from token_service.core.clients.uris import (
    MAX_URI,
    is_absolute_uri,
    is_dns_name,
    problem_of_origin,
    problem_of_redirect_uri,
    problem_of_web_uri,
)
from token_service.core.limits import MAX_AUDIENCE, MAX_AUDIENCES, MAX_CLIENT_ID, Checks
from token_service.tokens import strict_json
from token_service.tokens.jwk import UnusableKeyError, parse_public_jwk

MAX_CLIENT_NAME: Final = 256
MAX_REDIRECT_URIS: Final = 32
MAX_ORIGINS: Final = 32
MAX_JWKS: Final = 32 * 1024
"""Bytes of the JSON text of the keys of a client."""
MAX_JWKS_KEYS: Final = 16
MAX_DNS_NAME: Final = 253

# RFC 6749, appendix A.1, without the space. The client library and HTTP Basic send it unchanged or percent-encoded.
_CLIENT_ID: Final = re.compile(r"[\x21-\x7e]+")

_Problem = Callable[[str], str | None]


def check_client_id(checks: Checks, client_id: str) -> None:
    """Check the id of a client before its registration."""
    checks.text("client_id", client_id, MAX_CLIENT_ID, required=True)
    if client_id and client_id.isprintable() and _CLIENT_ID.fullmatch(client_id) is None:
        checks.add("client_id", "has characters other than visible ASCII characters")


def check_metadata(checks: Checks, metadata: ClientMetadata, classifications: Collection[str]) -> None:
    """Note every rule that the settings of a client break.

    `classifications` are those of the policy file.
    """
    checks.text("client_name", metadata.client_name, MAX_CLIENT_NAME)
    checks.scopes("scopes", metadata.scopes)
    checks.texts("audiences", metadata.audiences, MAX_AUDIENCES, MAX_AUDIENCE)
    if metadata.classification and metadata.classification not in classifications:
        checks.add("classification", f"is none of the policy file: {', '.join(sorted(classifications))}")
    _check_grant_types(checks, metadata)
    _check_uris(checks, metadata)
    check_sector(checks, metadata)
    _check_authentication(checks, metadata)
    if metadata.dpop_bound_access_tokens and metadata.tls_client_certificate_bound_access_tokens:
        checks.add(
            "tls_client_certificate_bound_access_tokens",
            "can't be set together with dpop_bound_access_tokens: choose the one key that tokens are bound to",
        )


def _check_grant_types(checks: Checks, metadata: ClientMetadata) -> None:
    grants = metadata.grant_types
    if len(set(grants)) < len(grants):
        checks.add("grant_types", "has an item twice")
    for number, grant in enumerate(grants[: len(GRANT_TYPES)]):
        if grant not in GRANT_TYPES:
            checks.add(f"grant_types[{number}]", f"is none of {', '.join(GRANT_TYPES)}")
    if AUTHORIZATION_CODE in grants and not metadata.redirect_uris:
        checks.add("redirect_uris", f"is required for the grant type {AUTHORIZATION_CODE}")
    if CLIENT_CREDENTIALS in grants and metadata.token_endpoint_auth_method is AuthMethod.NONE:
        checks.add(
            "grant_types",
            f"has {CLIENT_CREDENTIALS}, which needs a client that authenticates itself: choose another "
            "token_endpoint_auth_method than none (RFC 6749, section 4.4)",
        )


def _check_uris(checks: Checks, metadata: ClientMetadata) -> None:
    _check_each(checks, "redirect_uris", metadata.redirect_uris, MAX_REDIRECT_URIS, problem_of_redirect_uri)
    _check_each(
        checks,
        "post_logout_redirect_uris",
        metadata.post_logout_redirect_uris,
        MAX_REDIRECT_URIS,
        problem_of_redirect_uri,
    )
    _check_each(checks, "allowed_origins", metadata.allowed_origins, MAX_ORIGINS, problem_of_origin)
    _check_uri(checks, "backchannel_logout_uri", metadata.backchannel_logout_uri, problem_of_web_uri)
    _check_uri(checks, "sector_identifier_uri", metadata.sector_identifier_uri, _problem_of_https)
    _check_uri(checks, "jwks_uri", metadata.jwks_uri, _problem_of_https)


def _check_authentication(checks: Checks, metadata: ClientMetadata) -> None:
    """Note settings that contradict the method of authentication, and settings that it lacks."""
    method = metadata.token_endpoint_auth_method
    _check_jwks(checks, metadata.jwks)
    _check_subject_names(checks, metadata)
    if method is AuthMethod.PRIVATE_KEY_JWT:
        if bool(metadata.jwks) == bool(metadata.jwks_uri):
            checks.add("jwks", "exactly one of jwks and jwks_uri is required for private_key_jwt")
    else:
        for name in ("jwks", "jwks_uri", "accepts_endpoint_audience"):
            if getattr(metadata, name):
                checks.add(name, f"is only for private_key_jwt; token_endpoint_auth_method is {method}")
    sans = ("tls_client_auth_san_uri", "tls_client_auth_san_dns")
    if method is AuthMethod.TLS_CLIENT_AUTH:
        if sum(bool(getattr(metadata, name)) for name in sans) != 1:
            checks.add(sans[0], f"exactly one of {sans[0]} and {sans[1]} is required for tls_client_auth")
    else:
        for name in sans:
            if getattr(metadata, name):
                checks.add(name, f"is only for tls_client_auth; token_endpoint_auth_method is {method}")


def _check_subject_names(checks: Checks, metadata: ClientMetadata) -> None:
    uri, dns = metadata.tls_client_auth_san_uri, metadata.tls_client_auth_san_dns
    checks.text("tls_client_auth_san_uri", uri, MAX_URI)
    if uri and len(uri) <= MAX_URI and not is_absolute_uri(uri):
        checks.add("tls_client_auth_san_uri", "is no absolute URI, such as spiffe://example.org/app")
    if dns and not is_dns_name(dns):
        checks.add("tls_client_auth_san_dns", f"is no DNS name in lower case of at most {MAX_DNS_NAME} bytes")


def _check_jwks(checks: Checks, text: str) -> None:
    if not text:
        return
    if len(text.encode("utf-8", "surrogatepass")) > MAX_JWKS:
        checks.add("jwks", f"is longer than {MAX_JWKS} bytes")
        return
    try:
        keys = strict_json.decode_object(text.encode("utf-8", "surrogatepass")).get("keys")
    except ValueError:
        checks.add("jwks", "is no JSON object")
        return
    if not isinstance(keys, list) or not 0 < len(keys) <= MAX_JWKS_KEYS:
        checks.add("jwks", f"has no list `keys` of 1 to {MAX_JWKS_KEYS} keys (RFC 7517, section 5)")
        return
    seen: set[tuple[str, str]] = set()
    for number, key in enumerate(keys):
        if not isinstance(key, dict):
            checks.add(f"jwks.keys[{number}]", "is no JSON object")
            continue
        try:
            kid, algorithm, _ = parse_public_jwk(key)
        except UnusableKeyError as error:
            checks.add(f"jwks.keys[{number}]", f"can't be used: {error}")
            continue
        if (kid, algorithm.value) in seen:
            checks.add(f"jwks.keys[{number}]", "has the kid and algorithm of another key")
        seen.add((kid, algorithm.value))


def _check_each(checks: Checks, field: str, uris: Sequence[str], most: int, problem_of: _Problem) -> None:
    checks.texts(field, uris, most, MAX_URI)
    if len(uris) <= most:
        for number, uri in enumerate(uris):
            _check_form(checks, f"{field}[{number}]", uri, problem_of)


def _check_uri(checks: Checks, field: str, uri: str, problem_of: _Problem) -> None:
    checks.text(field, uri, MAX_URI)
    _check_form(checks, field, uri, problem_of)


def _check_form(checks: Checks, field: str, uri: str, problem_of: _Problem) -> None:
    if uri and len(uri) <= MAX_URI and uri.isprintable():
        problem = problem_of(uri)
        if problem is not None:
            checks.add(field, problem)


def _problem_of_https(uri: str) -> str | None:
    return problem_of_web_uri(uri, loopback=False)
