"""Validator configuration: trusted issuers, freshness and limits. All times are seconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc

from token_service.client._internal.credentials import TlsCredentials
from token_service.errors import ConfigurationError
from token_service.tokens.algorithms import PUBLIC_KEY_ALGORITHMS, Algorithm
from token_service.tokens.claims import TokenKind
from token_service.tokens.revocation import MAX_LEEWAY
from token_service.tokens.secret import Secret
from token_service.tokens.verified_cache import MAX_AGE

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

Fetch = Callable[[str, float], bytes]
"""`fetch(url, timeout)` returns the body of a GET. It may block; the validator calls it in a separate thread.

A fetch fails if it raises any exception, returns anything but `bytes` or takes longer than `timeout` seconds. A
fetch that never returns keeps its thread; an issuer has at most four such threads.
"""


ReadCredentials = Callable[[], TlsCredentials]
"""Function that returns the credentials of the next connection, e.g. `CredentialFiles`.

The validator calls it at the start, and again after a failure that invalid credentials may have caused, at most once
a second. The function may block briefly and may raise any exception.
"""

_AUTHORITY: Final = re.compile(r"(?:[^/@]*@)?(?P<host>\[[^\]/]+\]|[^\[\]:/@]+)(?::(?P<port>[0-9]+))?(?:/|$)")


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigurationError(f"{name} is {value}; it must be between {low} and {high}")


def _issuer(value: str) -> None:
    if not value or len(value) > 512:
        raise ConfigurationError("an issuer must have 1 to 512 characters")


def _target(value: str) -> None:
    scheme, separator, rest = value.partition("://")
    if not separator or scheme.lower() not in {"http", "https", "grpc", "grpcs"}:
        return
    found = _AUTHORITY.match(rest)
    host, port = (found["host"], found["port"] or "PORT") if found else ("HOST", "PORT")
    raise ConfigurationError(
        f"ServiceIssuer.target is a gRPC target, not a URL: write 'dns:///{host}:{port}', with the port of gRPC"
    )


class WhenStale(Enum):
    """Action for a token that passes every local check while the replica is not proven fresh."""

    REMOTE = "remote"
    """Ask `ValidateToken` with CONSISTENCY_STRONG. Without an answer, the validator takes the next action."""
    REJECT = "reject"
    """Raise `ReplicaStaleError`."""
    ACCEPT = "accept"
    """Accept for `Freshness.accept_for` seconds after the last proof of freshness, then reject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Freshness: how far the replica may lag behind the token service, and how the validator proves it."""

    bound: float = 5.0
    """S: a token whose revocation is acknowledged at t is not accepted as fresh after t + S."""
    when_stale: tuple[WhenStale, ...] = (WhenStale.REMOTE, WhenStale.REJECT)
    """Actions in the order they are tried. REJECT follows the last one."""
    accept_for: float = 300.0
    """How long ACCEPT applies after the last proof of freshness."""
    probe_timeout: float = 1.5
    """Deadline of one freshness probe. The validator sends a probe every `bound / 3` seconds."""

    def __post_init__(self) -> None:
        _between("Freshness.bound", self.bound, 0.2, 3600)
        _between("Freshness.accept_for", self.accept_for, 0, 86400)
        _between("Freshness.probe_timeout", self.probe_timeout, 0.05, self.bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays between attempts: random between half and all of `initial * 2**attempt`, at most `longest`."""

    initial: float = 0.2
    longest: float = 10.0

    def __post_init__(self) -> None:
        _between("Backoff.initial", self.initial, 0.001, 60)
        _between("Backoff.longest", self.longest, self.initial, 3600)

    def delay(self, attempt: int, random: float) -> float:
        """Return the seconds to wait before repetition `attempt` (0 is the first); `random` is in [0, 1)."""
        return float(min(self.longest, self.initial * 2.0 ** min(attempt, 30)) * (0.5 + random / 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """Snapshot on disk that lets a validator start while the token service is down."""

    path: Path
    mac_key: Secret
    """At least 32 bytes. A holder of this key can forge snapshots that this validator trusts."""
    max_age: float = 3600.0
    """Age above which the validator does not use a snapshot."""
    interval: float = 60.0
    """Interval between writes of the snapshot. The validator also writes it on close."""

    def __post_init__(self) -> None:
        if len(self.mac_key.reveal()) < 32:
            raise ConfigurationError("WarmStart.mac_key must have at least 32 bytes")
        _between("WarmStart.max_age", self.max_age, 1, 86400)
        _between("WarmStart.interval", self.interval, 1, 86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceIssuer:
    """The token service as issuer: keys and revocations arrive over its stream."""

    issuer: str
    """`iss` of its tokens, compared exactly."""
    target: str = ""
    """gRPC target: `dns:///tokens.internal:50051`, or several addresses `ipv4:10.0.0.1:50051,10.0.0.2:50051`
    with `server_name`. Not needed if a channel is given.
    """
    server_name: str = ""
    """The name in the service's certificate, if the target lacks it, e.g. a list of addresses or a tunnel."""
    credentials: grpc.ChannelCredentials | ReadCredentials | None = field(default=None, repr=False)
    """gRPC channel credentials, or `CredentialFiles` for certificates that are replaced while the validator
    runs.

    None: TLS with the root certificates of the system; no TLS for a target on this machine.
    """
    spiffe_id: str = ""
    """The SPIFFE ID that the service's certificate must have, instead of a DNS name. Needs own roots in `credentials`,
    given as a function. See docs/pinning.md.
    """
    pins: frozenset[str] = frozenset()
    """Pins of authorities (see `spki_pin`), at least two: only roots in `credentials` whose key is pinned are trusted.
    Needs own roots, given as a function. Empty: all roots.
    """
    subscriber_id: str = ""
    """A unique name of this validator, stable across restarts.

    `RevokeToken` with `wait` waits for named subscribers. Empty: a random name.
    """
    algorithms: frozenset[Algorithm] = frozenset(PUBLIC_KEY_ALGORITHMS)
    token_kinds: frozenset[TokenKind] = frozenset({TokenKind.ACCESS})
    freshness: Freshness = Freshness()
    reconnect: Backoff = Backoff()
    stall_timeout: float = 10.0
    """Silence after which the validator replaces a stream that is behind a head known from a probe."""
    key_refresh_interval: float = 5.0
    """Shortest interval between requests for the key set that an unknown `kid` causes."""
    remote_timeout: float = 1.0
    """Deadline of one `ValidateToken`."""
    max_remote_calls: int = 64
    """Concurrent `ValidateToken` calls at most. Beyond it, the validator acts as if the service did not answer."""
    warm_start: WarmStart | None = None

    def __post_init__(self) -> None:
        _issuer(self.issuer)
        _target(self.target)
        if any(character in self.server_name for character in "/:, "):
            raise ConfigurationError("ServiceIssuer.server_name must be a host name without scheme and port")
        self._check_identity()
        _between("ServiceIssuer.stall_timeout", self.stall_timeout, 0.1, 3600)
        _between("ServiceIssuer.key_refresh_interval", self.key_refresh_interval, 0, 3600)
        _between("ServiceIssuer.remote_timeout", self.remote_timeout, 0.01, 60)
        _between("ServiceIssuer.max_remote_calls", self.max_remote_calls, 1, 100_000)
        if len(self.subscriber_id.encode()) > 128:
            raise ConfigurationError("ServiceIssuer.subscriber_id must have at most 128 bytes")

    def _check_identity(self) -> None:
        if not self.is_pinned:
            return
        from token_service.client._internal.pins import check_pins, check_spiffe_id

        check_pins(self.pins)
        if self.spiffe_id:
            check_spiffe_id(self.spiffe_id)
            if self.server_name:
                raise ConfigurationError("ServiceIssuer takes a server_name or a spiffe_id, not both")
        if self.credentials is None or isinstance(self.credentials, grpc.ChannelCredentials):
            raise ConfigurationError(
                "ServiceIssuer.pins and spiffe_id need credentials with own roots: give a function that returns "
                "TlsCredentials, such as CredentialFiles"
            )

    @property
    def is_pinned(self) -> bool:
        """Whether the service's certificate must have more than a name and an authority."""
        return bool(self.pins or self.spiffe_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignIssuer:
    """Another issuer. Its keys come from an HTTP JWKS; the validator does not learn its revocations."""

    issuer: str
    """`iss` of its tokens, compared exactly."""
    jwks_url: str
    """`https://…`; plain `http` only to this machine."""
    algorithms: frozenset[Algorithm] = frozenset(PUBLIC_KEY_ALGORITHMS)
    token_kinds: frozenset[TokenKind] = frozenset({TokenKind.ACCESS})
    plain_kind: TokenKind = TokenKind.ID
    """Kind of a token with `typ` `JWT`. Many issuers give their access tokens this `typ`. See `IssuerRules`."""
    typ_required: bool = True
    """Whether a token without `typ` is refused."""
    fetch: Fetch | None = field(default=None, repr=False)
    """Replacement for the fetch by the standard library, e.g. for a proxy or client certificates."""
    refresh_interval: float = 300.0
    """Interval between fetches of the key set."""
    unknown_key_interval: float = 30.0
    """Shortest interval between earlier fetches that an unknown `kid` causes."""
    retry: Backoff = Backoff(initial=1.0, longest=60.0)
    timeout: float = 5.0
    """Time limit of one fetch: connecting, sending and receiving. A later response is dropped."""

    def __post_init__(self) -> None:
        _issuer(self.issuer)
        _between("ForeignIssuer.refresh_interval", self.refresh_interval, 1, 86400)
        _between("ForeignIssuer.unknown_key_interval", self.unknown_key_interval, 0, 86400)
        _between("ForeignIssuer.timeout", self.timeout, 0.05, 60)
        url = urlsplit(self.jwks_url)
        local = url.scheme == "http" and url.hostname in LOOPBACK
        if url.scheme != "https" and not local and self.fetch is None:
            raise ConfigurationError("ForeignIssuer.jwks_url must be an https URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorConfig:
    """Configuration of a `TokenValidator` or `SyncTokenValidator`."""

    issuers: Sequence[ServiceIssuer | ForeignIssuer]
    """Trusted issuers: at least one, with at most one `ServiceIssuer`."""
    audience: str | None
    """Audience that `aud` must contain unless a call names another. None: calls without an audience accept any."""
    leeway: float = 0.0
    """Seconds of clock difference tolerated at `exp`, `nbf` and `iat`. At most 300."""
    cache_capacity: int = 50_000
    """Verified tokens in the cache at most."""
    cache_age: float = MAX_AGE
    """Seconds that a verified token stays in the cache at most. At most 300."""

    def __post_init__(self) -> None:
        if not self.issuers:
            raise ConfigurationError("ValidatorConfig.issuers must have at least one issuer")
        if len({issuer.issuer for issuer in self.issuers}) != len(self.issuers):
            raise ConfigurationError("ValidatorConfig.issuers names an issuer twice; remove one")
        if sum(isinstance(issuer, ServiceIssuer) for issuer in self.issuers) > 1:
            raise ConfigurationError("ValidatorConfig.issuers may have at most one ServiceIssuer")
        if self.audience == "":
            raise ConfigurationError("ValidatorConfig.audience must not be empty; None accepts any audience")
        _between("ValidatorConfig.leeway", self.leeway, 0, MAX_LEEWAY)
        _between("ValidatorConfig.cache_capacity", self.cache_capacity, 2, 100_000_000)
        _between("ValidatorConfig.cache_age", self.cache_age, 0, MAX_AGE)
