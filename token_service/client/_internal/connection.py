"""Connection of a validator to the token service: a channel that is replaced when its credentials change.

A gRPC channel keeps the credentials that it was opened with. If a call fails and `ServiceIssuer.credentials` have
changed, a new channel replaces the old one, and the call is repeated. The old channel stays open until its calls have
ended.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc

from token_service.client._internal.channel import (
    open_channel,
    open_relay,
    open_sync_channel,
    read_credentials,
)
from token_service.client._internal.contact import Contact
from token_service.client._internal.credentials import TlsCredentials
from token_service.client._internal.trace_context import trace_options
from token_service.client.config import ServiceIssuer
from token_service.errors import (
    CallerUnauthenticatedError,
    ConfigurationError,
    ServiceError,
    UnreachableError,
)
from token_service.wire import error_from_rpc

if TYPE_CHECKING:
    from token_service.client._internal.tls_relay import TlsRelay

_LOOK_INTERVAL: Final = 1.0
"""Seconds between two reads of the credentials, independent of the number of failing calls."""


class Stubs(NamedTuple):
    """The RPCs that a validator calls, on one channel."""

    StreamRevocations: Any
    ConfirmRevocations: Any
    ValidateToken: Any
    GetKeySet: Any

    @classmethod
    def of(cls, channel: Any) -> Stubs:
        """Create the stubs of `channel`."""
        from token_service.v1.key_service_pb2_grpc import KeyServiceStub
        from token_service.v1.token_service_pb2_grpc import TokenServiceStub

        tokens, keys = TokenServiceStub(channel), KeyServiceStub(channel)
        return cls(tokens.StreamRevocations, tokens.ConfirmRevocations, tokens.ValidateToken, keys.GetKeySet)


class _Credentials:
    """Credentials in use, and detection of their replacement. Not thread-safe."""

    def __init__(self, issuer: ServiceIssuer, contact: Contact) -> None:
        self.in_use: TlsCredentials | None = None
        self._issuer = issuer
        self._contact = contact
        self._looked = float("-inf")

    def begin(self) -> TlsCredentials | None:
        """Read the first credentials. Raises `ConfigurationError`."""
        self.in_use = read_credentials(self._issuer)
        return self.in_use

    def look(self) -> TlsCredentials | None:
        """Return the credentials if they have changed. Reads them at most once in `_LOOK_INTERVAL`."""
        now = monotonic()
        if self.in_use is None or now - self._looked < _LOOK_INTERVAL:
            return None
        self._looked = now
        try:
            found = read_credentials(self._issuer)
        except ConfigurationError as error:
            self._contact.warn("credentials", f"{error.message}; the previous credentials stay in use")
            return None
        return found if found != self.in_use else None


def _require_no_pins(issuer: ServiceIssuer) -> None:
    if issuer.is_pinned:
        raise ConfigurationError(
            "ServiceIssuer.pins and spiffe_id do not apply to a channel that is given; set ServiceIssuer.target instead"
        )


def _may_be_of_credentials(error: ServiceError) -> bool:
    return isinstance(error, UnreachableError | CallerUnauthenticatedError)


def _longest_call(issuer: ServiceIssuer) -> float:
    return max(issuer.remote_timeout, issuer.freshness.probe_timeout)


class Connection:
    """Connection for one event loop."""

    def __init__(self, issuer: ServiceIssuer, contact: Contact, given: grpc.aio.Channel | None) -> None:
        """Configure the connection. `given` is a channel to use unchanged; it stays open."""
        self.contact = contact
        self.stubs: Stubs
        self._issuer = issuer
        self._given = given
        self._credentials = _Credentials(issuer, contact)
        self._channel: grpc.aio.Channel | None = None
        self._relay: TlsRelay | None = None
        self._renewing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Open the channel. gRPC connects on first use. Raises `ConfigurationError`."""
        if self._given is not None:
            _require_no_pins(self._issuer)
            self.stubs = Stubs.of(self._given)
            return
        credentials = await asyncio.to_thread(self._credentials.begin)
        # Takes milliseconds. In another thread, a start that is cancelled would leave a relay that nothing closes.
        self._relay = open_relay(self._issuer, credentials, self.contact.refused)
        self._channel = open_channel(self._issuer, credentials, self._relay)
        self.stubs = Stubs.of(self._channel)

    async def close(self) -> None:
        """Close every channel that this object opened."""
        for task in self._retiring:
            task.cancel()
        if self._retiring:
            await asyncio.wait(self._retiring)
        if self._channel is not None:
            await self._channel.close()
        if self._relay is not None:
            await asyncio.to_thread(self._relay.close)

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        """Call `method` and return its response.

        Raises `ServiceError` if the call fails, with new credentials as well.
        """
        stubs = self.stubs
        try:
            try:
                response = await getattr(stubs, method)(request, timeout=timeout, **trace_options())
            except grpc.RpcError as error:
                if not await self.renew(error_from_rpc(error), stubs):
                    raise
                response = await getattr(self.stubs, method)(request, timeout=timeout, **trace_options())
        except grpc.RpcError as error:
            failure = error_from_rpc(error)
            self.contact.failed(method, failure)
            raise failure from error
        self.contact.answered(method)
        return response

    async def renew(self, error: ServiceError, stubs: Stubs) -> bool:
        """Replace the channel if changed credentials may help a call of `stubs` that failed with `error`.

        Returns whether to repeat the call on the current channel.
        """
        if not _may_be_of_credentials(error) or self._given is not None:
            return False
        async with self._renewing:
            if stubs is not self.stubs:
                return True
            found = await asyncio.to_thread(self._credentials.look)
            if found is None:
                return False
            old, self._channel = self._channel, open_channel(self._issuer, found, self._relay)
            self.stubs = Stubs.of(self._channel)
            self._credentials.in_use = found
        if old is not None:
            task = asyncio.create_task(self._retire(old), name="close-old-channel")
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        return True

    async def _retire(self, channel: grpc.aio.Channel) -> None:
        try:
            await asyncio.sleep(_longest_call(self._issuer))
        finally:
            await channel.close()


class SyncConnection:
    """Connection for threads."""

    def __init__(self, issuer: ServiceIssuer, contact: Contact, given: grpc.Channel | None) -> None:
        """Configure the connection. `given` is a channel to use unchanged; it stays open."""
        self.contact = contact
        self.stubs: Stubs
        self._issuer = issuer
        self._given = given
        self._credentials = _Credentials(issuer, contact)
        self._channel: grpc.Channel | None = None
        self._relay: TlsRelay | None = None
        self._renewing = threading.Lock()
        self._closed = False
        self._retiring: dict[grpc.Channel, threading.Timer] = {}

    def open(self) -> None:
        """Open the channel as `Connection.open` does."""
        if self._given is not None:
            _require_no_pins(self._issuer)
            self.stubs = Stubs.of(self._given)
            return
        credentials = self._credentials.begin()
        self._relay = open_relay(self._issuer, credentials, self.contact.refused)
        self._channel = open_sync_channel(self._issuer, credentials, self._relay)
        self.stubs = Stubs.of(self._channel)

    def close(self) -> None:
        """Close every channel that this object opened."""
        with self._renewing:
            self._closed = True
            retiring, self._retiring = self._retiring, {}
        for channel, timer in retiring.items():
            timer.cancel()
            channel.close()
        if self._channel is not None:
            self._channel.close()
        if self._relay is not None:
            self._relay.close()

    def call(self, method: str, request: Any, timeout: float) -> Any:
        """Call `method` as `Connection.call` does."""
        stubs = self.stubs
        try:
            try:
                response = getattr(stubs, method)(request, timeout=timeout, **trace_options())
            except grpc.RpcError as error:
                if not self.renew(error_from_rpc(error), stubs):
                    raise
                response = getattr(self.stubs, method)(request, timeout=timeout, **trace_options())
        except grpc.RpcError as error:
            failure = error_from_rpc(error)
            self.contact.failed(method, failure)
            raise failure from error
        self.contact.answered(method)
        return response

    def renew(self, error: ServiceError, stubs: Stubs) -> bool:
        """Replace the channel as `Connection.renew` does."""
        if not _may_be_of_credentials(error) or self._given is not None:
            return False
        with self._renewing:
            if stubs is not self.stubs:
                return True
            found = None if self._closed else self._credentials.look()
            if found is None:
                return False
            self._credentials.in_use = found
            old, self._channel = self._channel, open_sync_channel(self._issuer, found, self._relay)
            self.stubs = Stubs.of(self._channel)
            if old is not None:
                timer = threading.Timer(_longest_call(self._issuer), self._retire, (old,))
                timer.daemon = True
                self._retiring[old] = timer
                timer.start()
        return True

    def _retire(self, channel: grpc.Channel) -> None:
        with suppress(KeyError), self._renewing:
            del self._retiring[channel]
        channel.close()
