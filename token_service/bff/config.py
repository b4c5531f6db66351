"""The configuration of a backend-for-frontend, checked when it is made."""

from __future__ import annotations

import re
import ssl
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from token_service.bff.client_authentication import ClientAuthentication
from token_service.client._internal.request_path import is_plain
from token_service.errors import ConfigurationError
from token_service.tokens.opaque_token import MacKeys
from token_service.tokens.secret import Secret

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_COOKIE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_HEADER_NAME: Final = re.compile(r"[a-z0-9-]{1,64}")
_OWN_PARAMETERS: Final = frozenset(
    "client_id response_type response_mode redirect_uri scope state nonce code_challenge code_challenge_method"
    " resource request request_uri".split()
)
_KEY_BYTES: Final = 32


class SameSite(StrEnum):
    """The `SameSite` attribute of the session cookie."""

    LAX = "Lax"
    """Sent with links from other sites, never with their forms, frames and scripts."""
    STRICT = "Strict"
    """Sent only with requests from the site itself: a link from an e-mail opens the application logged out."""


class ProviderLogout(StrEnum):
    """What a logout by the user does at the provider. It has no default, because each choice has a price."""

    REVOKE = "revoke"
    """Revoke the refresh token (RFC 7009). The user stays logged in at the provider, and may log in without a password."""
    ASK = "ask"
    """Also lead the browser to the provider's logout, with `client_id` alone. Providers ask the user then, or refuse."""
    PROVE = "prove"
    """Also lead the browser there with the ID token as `id_token_hint`, which is the proof that providers want.

    The ID token is then in a URL that the browser opens, and in its history. Its session has been revoked before.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """The OpenID provider, and the client that the application is registered as."""

    issuer: str
    """`iss`, compared exactly. The discovery document is below it."""
    client: ClientAuthentication
    scopes: Sequence[str] = ("openid",)
    """The scopes that a login asks for. Many providers give a refresh token only with `offline_access`."""
    resources: Sequence[str] = ()
    """The APIs that the access token is for (RFC 8707)."""
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Further parameters of the authorization request, such as `acr_values` or `max_age`."""
    timeout: float = 5.0
    """Seconds for a request to the provider, in total."""
    tls: ssl.SSLContext | None = None
    """Replaces the certificate authorities of the system."""
    tells_origin: bool = False
    """Tell the token endpoint the address and the user agent of the browser, in `X-Forwarded-For` and `User-Agent`.

    The provider believes it only of an application that it trusts as a proxy, and compares the uses of a session by it.
    """

    def __post_init__(self) -> None:
        _require_url("Provider.issuer", self.issuer)
        _between("Provider.timeout", self.timeout, 0.1, 30)
        if "openid" not in self.scopes:
            raise ConfigurationError("Provider.scopes must contain openid")
        own = _OWN_PARAMETERS & self.parameters.keys()
        if own:
            raise ConfigurationError(
                f"Provider.parameters must not contain {min(own)}: it is set for each login"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRules:
    """How long sessions live, in seconds, and what the browser learns of them."""

    idle_timeout: float = 3600.0
    """A session without a request for this long is over."""
    absolute_timeout: float = 43200.0
    """A session is over this long after the login."""
    renew_ahead: float = 60.0
    """Access tokens are renewed this long before they expire, or after three quarters of their life if that is later."""
    per_user: int | None = None
    """The most sessions of a user. A login beyond ends the oldest one."""
    claims: Collection[str] = ("sub",)
    """The claims of the ID token that the session endpoint shows."""

    def __post_init__(self) -> None:
        _between("SessionRules.idle_timeout", self.idle_timeout, 10, 366 * 86400)
        _between("SessionRules.absolute_timeout", self.absolute_timeout, self.idle_timeout, 366 * 86400)
        _between("SessionRules.renew_ahead", self.renew_ahead, 0, 3600)
        if self.per_user is not None:
            _between("SessionRules.per_user", self.per_user, 1, 1000)
        if isinstance(self.claims, str):
            raise ConfigurationError("SessionRules.claims must be a collection, not one string")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRules:
    """Cookies, and which requests are taken for requests of the application itself."""

    cookie: str = "session"
    """The name of the session cookie after `__Host-`. Two applications on one host need different names."""
    same_site: SameSite = SameSite.LAX
    csrf_header: str | None = None
    """A header that unsafe requests must have besides, with any value. Forms can't send one."""
    cross_origin_paths: Collection[str] = ()
    """Paths that other origins may send unsafe requests to, such as webhooks. They never have a session."""

    def __post_init__(self) -> None:
        if not _COOKIE_NAME.fullmatch(self.cookie):
            raise ConfigurationError("RequestRules.cookie must have 1 to 40 letters, digits, - and _")
        if self.csrf_header is not None and not _HEADER_NAME.fullmatch(self.csrf_header):
            raise ConfigurationError("RequestRules.csrf_header must be the name of a header in lower case")
        for path in self.cross_origin_paths:
            if not is_plain(path):
                raise ConfigurationError(f"RequestRules.cross_origin_paths: {path!r} is not a plain path")


@dataclass(frozen=True, slots=True, kw_only=True)
class BffConfig:
    """The configuration of a backend-for-frontend."""

    public_url: str
    """The origin of the application as browsers see it, such as `https://app.example`. No header replaces it."""
    provider: Provider
    keys: Mapping[int, Secret]
    """Keys of 32 bytes or more that seal login cookies and stored tokens, by version.

    To rotate: add a new version everywhere, then make it the active one, then remove the old version after
    `absolute_timeout`. All processes need the same keys.
    """
    active_key: int
    """The version that seals. The others only open."""
    logout: ProviderLogout
    prefix: str = "/auth"
    """The path that the endpoints are below."""
    sessions: SessionRules = field(default_factory=SessionRules)
    requests: RequestRules = field(default_factory=RequestRules)
    after_logout: str = "/"
    """The path that the provider sends the browser to after a logout. Register its URL there."""

    def __post_init__(self) -> None:
        _require_url("BffConfig.public_url", self.public_url)
        if urlsplit(self.public_url)[2:] != ("", "", ""):
            raise ConfigurationError(
                "BffConfig.public_url must be an origin: scheme, host and port, without a path"
            )
        for name, path in (("prefix", self.prefix), ("after_logout", self.after_logout)):
            if not is_plain(path) or (name == "prefix" and path.endswith("/")):
                raise ConfigurationError(f"BffConfig.{name} must be a plain path such as /auth")
        for version, key in self.keys.items():
            if len(key.reveal()) < _KEY_BYTES:
                raise ConfigurationError(f"BffConfig.keys: key {version} has less than {_KEY_BYTES} bytes")
            if not 0 <= version < 1 << 16:
                raise ConfigurationError("BffConfig.keys: a version must be between 0 and 65535")
        if self.active_key not in self.keys:
            raise ConfigurationError("BffConfig.active_key is not a version of BffConfig.keys")

    @property
    def sealing_keys(self) -> MacKeys:
        """The keys as `tokens.sealed` takes them."""
        return MacKeys(dict(self.keys), self.active_key)

    @property
    def redirect_uri(self) -> str:
        """The redirect URI to register at the provider."""
        return f"{self.public_url}{self.prefix}/callback"

    @property
    def post_logout_redirect_uri(self) -> str:
        """The post logout redirect URI to register at the provider."""
        return f"{self.public_url}{self.after_logout}"


def is_secure_url(url: str) -> bool:
    """Return whether a URL is https, or http to this machine, which leaves no network to listen on."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))


def _require_url(name: str, url: str) -> None:
    if not is_secure_url(url) or not url.isascii() or "?" in url or "#" in url or "@" in url:
        raise ConfigurationError(
            f"{name} must be an https URL (http for loopback) without a query; it is {url!r}"
        )


def _between(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigurationError(f"{name} must be between {least:g} and {most:g}; it is {value:g}")
