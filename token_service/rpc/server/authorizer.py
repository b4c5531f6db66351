"""The port for the identification of callers, and the authorizer of development.

`certificate_authorizer` and `proof_authorizer` are those of production.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights


class Peer(Protocol):
    """The peer of a call: the part of grpc.aio.ServicerContext that certificates need."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return the properties of an authenticated peer; empty for an unauthenticated peer."""
        ...


class Call(Peer, Protocol):
    """A call: the part of grpc.aio.ServicerContext that authorizers use."""

    def peer(self) -> str:
        """Return the address of the peer as gRPC writes it."""
        ...

    def invocation_metadata(self) -> Iterable[Any] | None:
        """Return pairs of a name in lower case and its value, a text or bytes."""
        ...


Identify: TypeAlias = Callable[[Call], Caller | Awaitable[Caller]]
"""`identify(call)` returns the caller of a call, or an awaitable of it if a proof takes I/O to check.

It raises `CallerUnauthenticatedError`; an awaitable also raises the errors of `Authenticator.identify`.
"""


class Authorizer(Protocol):
    """Identifies callers."""

    def identifier(self, method: str) -> Identify:
        """Return the function that identifies the callers of a method, e.g. `/package.Service/Method`."""
        ...

    def rights(self, caller: Caller) -> Rights:
        """Return the current rights of an identified caller; none if its proof is no longer valid."""
        ...

    def expire_time(self, caller: Caller) -> float:
        """Return when the proof of an identified caller expires now. Ask again after each change."""
        ...

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the rights of callers may have changed."""
        ...


class TrustingAuthorizer:
    """Grants every right to every caller. For development on a loopback address."""

    _CALLER: Final = Caller("anybody", Rights.everything())

    def identifier(self, method: str) -> Identify:
        """See `Authorizer.identifier`."""
        return self.identify

    def identify(self, peer: Peer) -> Caller:
        """Return the same caller for every peer."""
        return self._CALLER

    def rights(self, caller: Caller) -> Rights:
        """Return every right."""
        return caller.rights

    def expire_time(self, caller: Caller) -> float:
        """Return the time that the caller has."""
        return caller.expire_time

    def on_change(self, listener: Callable[[], None]) -> None:
        """Ignore the listener: rights never change."""
