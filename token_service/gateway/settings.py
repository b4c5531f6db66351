"""The settings of a gateway: the tables and keys of `gateway.toml`. All times are seconds.

An unknown key is an error. The text after a key is its description on the page docs/reference/gateway.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0, le=86400)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]
HeaderName = Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]{1,64}$")]
RouteName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Listen(_Table, frozen=True):
    """Addresses: `HOST:PORT`, or `unix:PATH` for a socket."""

    grpc: str = ""
    """Address of `envoy.service.auth.v3.Authorization`. Empty: none."""
    http: str = ""
    """Address of `/auth`, health and metrics. Empty: none."""
    socket_mode: Annotated[str, msgspec.Meta(pattern="^0?[0-7]{3}$")] = "0660"
    """Permissions of the sockets, in octal digits."""


class Issuer(_Table, frozen=True):
    """The token service: keys and revocations arrive over its stream."""

    issuer: Text
    """`iss` of its tokens."""
    target: Text
    """gRPC target, e.g. `dns:///tokens.internal:50051`."""
    server_name: str = ""
    """Name in the certificate of the service, if the target lacks it."""
    roots: Path | None = None
    """File with the certificate authorities of the service. Default: those of the system."""
    certificate_chain: Path | None = None
    """File with the client certificate of the gateway."""
    private_key: Path | None = None
    """File with the private key of `certificate_chain`."""
    subscriber_id: str = ""
    """A unique name of this gateway, stable across restarts. Empty: a random name."""
    algorithms: tuple[str, ...] = ()
    """Accepted signature algorithms. Empty: those of public keys."""
    freshness_bound: Annotated[float, msgspec.Meta(ge=0.2, le=3600)] = 5.0
    """Longest time from the acknowledgment of a revocation to the refusal of its tokens."""
    ask_when_stale: bool = True
    """Whether the gateway asks the service for a token that it can't judge itself at the moment."""
    remote_timeout: Annotated[float, msgspec.Meta(ge=0.01, le=60)] = 1.0
    """Time limit of such a call."""


class ForeignIssuer(_Table, frozen=True):
    """Another issuer, whose keys come from a JWKS and whose revocations are not known."""

    issuer: Text
    """`iss` of its tokens."""
    jwks_url: Text
    """URL of its key set: `https://…`."""
    algorithms: tuple[str, ...] = ()
    """Accepted signature algorithms. Empty: those of public keys."""
    plain_type_is_access: bool = False
    """Whether a token with `typ` `JWT` is an access token. Many issuers give their access tokens this type."""
    type_required: bool = True
    """Whether a token without `typ` is refused."""
    refresh_interval: Annotated[float, msgspec.Meta(ge=1, le=86400)] = 300.0
    """Time between fetches of the key set."""


class Tokens(_Table, frozen=True):
    """What every token must have."""

    audience: Text | None = None
    """Audience that `aud` must contain, unless the route names another one."""
    any_audience: bool = False
    """Accept tokens of any audience on routes that name none. Needed to leave out `audience`."""
    leeway: Annotated[float, msgspec.Meta(ge=0, le=300)] = 0.0
    """Clock difference tolerated at `exp`, `nbf` and `iat`."""
    cache_capacity: Annotated[int, msgspec.Meta(ge=2, le=10_000_000)] = 50_000
    """Verified tokens in the cache at most."""


class Route(_Table, frozen=True):
    """The requirements of a route that a proxy selects by its name."""

    issuer: Text | None = None
    """The only issuer whose tokens are accepted."""
    audience: Text | None = None
    """Replaces `tokens.audience`."""
    scopes: tuple[str, ...] = ()
    """Scopes that the token must all have."""
    roles: tuple[str, ...] = ()
    """The token must have one of them in `roles`."""
    groups: tuple[str, ...] = ()
    """The token must have one of them in `groups`."""
    entitlements: tuple[str, ...] = ()
    """The token must have one of them in `entitlements`."""
    acr_values: tuple[str, ...] = ()
    """`acr` of the token must be one of them."""
    max_age: float | None = None
    """Longest time since the authentication of the user."""
    public: bool = False
    """Pass every request, without a look at its token. Identity headers are removed all the same."""
    cors_preflight: bool = False
    """Pass `OPTIONS` requests with `Origin` and `Access-Control-Request-Method` without a token."""


class Identity(_Table, frozen=True):
    """Headers for the application behind the proxy."""

    claims: bool = False
    """Send all claims in `x-token-claims`, as base64url of their JSON."""
    claims_max_bytes: Annotated[int, msgspec.Meta(ge=256, le=65536)] = 8192
    """Length of `x-token-claims` at most. Longer claims are not sent, and counted."""
    remove_credentials: bool = False
    """Remove `Authorization` and `DPoP` from requests that Envoy passes on. Other proxies do it themselves."""


class Responses(_Table, frozen=True):
    """Responses to refused requests."""

    realm: str = ""
    """`realm` of the challenges."""
    envoy_unavailable: Literal["error_response", "denied_503", "denied_403"] = "error_response"
    """Response to Envoy if a token can't be judged now: `error_response` (503, needs Envoy 1.37), or a denial."""
    http_unavailable: Literal[403, 503] = 503
    """Status of `/auth` in this case. nginx turns every status but 401 and 403 into 500."""
    http_bad_request: Literal[400, 403] = 400
    """Status of `/auth` for a malformed request or an ambiguous path. Likewise."""


class Http(_Table, frozen=True):
    """The request as the proxy describes it to `/auth`. The proxy must overwrite these headers."""

    method_header: HeaderName = "x-forwarded-method"
    """Header with the method."""
    uri_header: HeaderName = "x-forwarded-uri"
    """Header with path and query, as the client sent them."""
    scheme_header: HeaderName = "x-forwarded-proto"
    """Header with `http` or `https`."""
    host_header: HeaderName = "x-forwarded-host"
    """Header with the host."""
    requirement_headers: dict[str, HeaderName] = {}
    """Requirements in headers of the proxy: extension key to header name. A request that lacks one of them is refused."""


class Paths(_Table, frozen=True):
    """Paths that applications may read differently from the proxy."""

    allow_second_readings: bool = False
    """Pass paths with `;parameters`, a decoded `?` or `#`, or double encoding. Ambiguous dots and slashes are never passed."""


class Proofs(_Table, frozen=True):
    """Proofs for tokens that are bound to a key."""

    origin: str = ""
    """Scheme and host of the public URLs, e.g. `https://api.example`: DPoP proofs must be for them."""
    trust_host: bool = False
    """Take scheme and host of each request from the proxy instead. Without both, DPoP-bound tokens are refused."""
    nonce_keys: Path | None = None
    """File with the keys of DPoP nonces, one in hexadecimal digits per line; all gateways need the same. None: no nonces."""
    client_certificate: Literal["connection", "xfcc", "client-cert", "escaped-pem", "none"] = "connection"
    """Source of the client certificate: the connection to Envoy (`include_peer_certificate`), or a header of a trusted proxy."""
    certificate_header: HeaderName | None = None
    """Name of this header. Default: `x-forwarded-client-cert` or `client-cert`; `escaped-pem` needs a name."""


class Resource(_Table, frozen=True):
    """The protected resource metadata (RFC 9728). The document is served below `/.well-known/oauth-protected-resource`."""

    resource: Text
    """Identifier of the resource: an https URL."""
    authorization_servers: tuple[Text, ...] = ()
    """Issuers of its tokens. Empty: all issuers of this file."""
    scopes_supported: tuple[str, ...] = ()
    """Scopes of the resource."""
    name: str = ""
    """`resource_name`: name for people."""
    documentation: str = ""
    """`resource_documentation`: URL of a page for developers."""
    metadata_url: str = ""
    """`resource_metadata` of challenges. Empty: the well-known URL of the resource."""


class Limits(_Table, frozen=True):
    """Limits."""

    deadline: Positive = 3.0
    """Time limit of a check."""
    concurrent_checks: Count = 1000
    """Checks that wait for the token service at a time. Further ones are refused as unavailable."""
    request_bytes: Annotated[int, msgspec.Meta(ge=4096, le=4 * 1024 * 1024)] = 128 * 1024
    """Size of a request at most: the message of Envoy, or the headers of `/auth`."""
    drain: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0
    """Time from SIGTERM, with `/readyz` at 503, until the gateway refuses new checks."""
    shutdown_grace: Positive = 10.0
    """Time for running checks at the end."""


class Reload(_Table, frozen=True):
    """Reload of this file. SIGHUP reloads it at once. A file with an error changes nothing."""

    interval: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 5.0
    """Time between looks at the file. 0: only SIGHUP reloads it."""
    ready_timeout: Positive = 30.0
    """Time that new issuers may take. The old configuration stays in use until they are ready, and if they never are."""


class Settings(_Table, frozen=True):
    """The file."""

    listen: Listen
    issuer: Issuer | None = None
    foreign_issuers: tuple[ForeignIssuer, ...] = ()
    tokens: Tokens = Tokens()
    routes: dict[RouteName, Route] = {}
    identity: Identity = Identity()
    responses: Responses = Responses()
    http: Http = Http()
    paths: Paths = Paths()
    proofs: Proofs = Proofs()
    resource: Resource | None = None
    limits: Limits = Limits()
    reload: Reload = Reload()
