"""gRPC channels from a validator to the token service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import grpc

from token_service.client._internal.credentials import TlsCredentials
from token_service.client.config import ServiceIssuer
from token_service.errors import ConfigurationError

if TYPE_CHECKING:
    from token_service.client._internal.tls_relay import TlsRelay

_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    # A dead peer is noticed within 15 s; the service allows pings this often.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # By default gRPC waits up to two minutes before it reconnects to a service that was down.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # gRPC sends pings with received data to measure a good window size. A service that is late with its own data
    # treats several such pings as an attack and closes the connection. A fixed window, large enough for a snapshot,
    # needs no such pings.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1024 * 1024),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    # A validator must not share its connection, and its failures, with another channel to the same address.
    ("grpc.use_local_subchannel_pool", 1),
)

NO_PROXY: Final = ("grpc.enable_http_proxy", 0)
"""By default gRPC connects through the proxy of `http_proxy` and its like, even to this machine. A channel without TLS
would show the proxy, and the network on the way to it, every secret."""


def open_channel(
    issuer: ServiceIssuer, tls: TlsCredentials | None, relay: TlsRelay | None = None
) -> grpc.aio.Channel:
    """Open a channel to the token service. Raises `ConfigurationError` without a target.

    `tls` is the result of `read_credentials`. With a `relay` the relay makes the TLS connection.
    """
    if relay is not None:
        return grpc.aio.insecure_channel(relay.target, options=_through(relay, tls))
    credentials, options = _credentials(issuer, tls), _options(issuer)
    if credentials is None:
        return grpc.aio.insecure_channel(issuer.target, options=options)
    return grpc.aio.secure_channel(issuer.target, credentials, options=options)


def open_sync_channel(
    issuer: ServiceIssuer, tls: TlsCredentials | None, relay: TlsRelay | None = None
) -> grpc.Channel:
    """Open a channel as `open_channel` does, for threads."""
    if relay is not None:
        return grpc.insecure_channel(relay.target, options=_through(relay, tls))
    credentials, options = _credentials(issuer, tls), _options(issuer)
    if credentials is None:
        return grpc.insecure_channel(issuer.target, options=options)
    return grpc.secure_channel(issuer.target, credentials, options=options)


def read_credentials(issuer: ServiceIssuer) -> TlsCredentials | None:
    """Call `ServiceIssuer.credentials`; return None if it is not a function. May block.

    Raises `ConfigurationError` if the function fails.
    """
    read = issuer.credentials
    if read is None or isinstance(read, grpc.ChannelCredentials):
        return None
    try:
        found = read()
        if not issuer.is_pinned:
            return found
        from token_service.client._internal.pins import pinned_roots

        return replace(found, roots=pinned_roots(found.roots, issuer.pins))
    except Exception as error:  # the function comes from the user
        raise ConfigurationError(f"ServiceIssuer.credentials can't be read: {error}") from error


def open_relay(
    issuer: ServiceIssuer, tls: TlsCredentials | None, refused: Callable[[str], None]
) -> TlsRelay | None:
    """Start the relay that a SPIFFE ID needs; return None without one. Raises `ConfigurationError`."""
    if not issuer.spiffe_id or tls is None:
        return None
    from token_service.client._internal.tls_relay import TlsRelay

    relay = TlsRelay(issuer.target, issuer.spiffe_id, refused)
    relay.use(tls)
    relay.start()
    return relay


def _through(relay: TlsRelay, tls: TlsCredentials | None) -> tuple[tuple[str, int | str], ...]:
    assert tls is not None
    relay.use(tls)
    return (*_OPTIONS, NO_PROXY, ("grpc.default_authority", relay.authority))


def _options(issuer: ServiceIssuer) -> tuple[tuple[str, int | str], ...]:
    options = (*_OPTIONS, NO_PROXY) if is_local(issuer.target) else _OPTIONS
    if not issuer.server_name:
        return options
    name = issuer.server_name
    return (*options, ("grpc.ssl_target_name_override", name), ("grpc.default_authority", name))


def _credentials(issuer: ServiceIssuer, tls: TlsCredentials | None) -> grpc.ChannelCredentials | None:
    if not issuer.target:
        raise ConfigurationError("ServiceIssuer.target is empty; set it or pass a channel")
    if tls is not None:
        return tls.for_grpc()
    if isinstance(issuer.credentials, grpc.ChannelCredentials):
        return issuer.credentials
    return None if is_local(issuer.target) else grpc.ssl_channel_credentials()


def is_local(target: str) -> bool:
    """Return whether a gRPC target can only lead to this machine."""
    scheme, colon, rest = target.partition(":")
    if scheme in {"unix", "unix-abstract"} and colon:
        return True
    addresses = rest if scheme in {"ipv4", "ipv6", "dns"} and colon else target
    return all(
        address.rpartition("/")[2].rpartition(":")[0] in {"127.0.0.1", "localhost", "[::1]"}
        for address in addresses.split(",")
    )
