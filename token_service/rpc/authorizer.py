"""Who calls, and what that caller may do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from token_service.core.callers import Permission
from token_service.errors import CallerUnauthenticatedError, PermissionDeniedError
from token_service.tokens import base64url

_MAX_KNOWN: Final = 1024


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls. `name` is for logs."""

    name: str
    permissions: frozenset[Permission]
    identity: str = ""
    """Stands for what the caller has proved to be, whatever that permits now.

    Of one length; empty: callers can't be told apart.
    """
    names: tuple[bytes, ...] = ()
    """In its certificate."""

    def subscriber(self, subscriber_id: str) -> str:
        """What a validator of this caller is known by: nobody else can speak for it, whatever name they give."""
        return f"{self.identity}:{subscriber_id}" if self.identity else subscriber_id

    def require(self, permission: Permission) -> None:
        """Raise `PermissionDeniedError` unless the caller has the permission."""
        if permission not in self.permissions:
            raise PermissionDeniedError(
                f"this call needs the permission {permission.value}",
                metadata={"permission": permission.value},
            )


class Peer(Protocol):
    """What a call says of its peer: the part of grpc.aio.ServicerContext that is used here."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Properties of an authenticated peer; empty for one that is not."""
        ...


class Authorizer(Protocol):
    """Tells callers apart."""

    def identify(self, peer: Peer) -> Caller:
        """Who calls. Raises `CallerUnauthenticatedError`."""
        ...

    def permissions(self, caller: Caller) -> frozenset[Permission]:
        """What a caller identified earlier may do now."""
        ...

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever somebody's permissions may have changed."""
        ...


class TrustingAuthorizer:
    """Anybody may do anything. For development on a loopback address."""

    _ANYBODY: Final = Caller("anybody", frozenset(Permission))

    def identify(self, peer: Peer) -> Caller:
        """Anybody."""
        return self._ANYBODY

    def permissions(self, caller: Caller) -> frozenset[Permission]:
        """All there are."""
        return caller.permissions

    def on_change(self, listener: Callable[[], None]) -> None:
        """Nothing ever changes."""


class CertificateAuthorizer:
    """Callers are who their client certificate says: a SPIFFE ID (URI SAN) or a DNS name (DNS SAN).

    A certificate with several names has the permissions of all of them. An identity in `callers` is compared
    exactly; one that ends in `/*` stands for every SPIFFE ID below it.
    """

    def __init__(self, callers: Mapping[str, frozenset[Permission]]) -> None:
        self._callers: Mapping[str, frozenset[Permission]] = callers
        self._known: dict[tuple[bytes, ...], Caller] = {}
        self._listeners: list[Callable[[], None]] = []

    @property
    def callers(self) -> Mapping[str, frozenset[Permission]]:
        """The permissions of each identity.

        May be replaced at any time; calls that come later, and streams that are open, go by the new ones.
        """
        return self._callers

    @callers.setter
    def callers(self, callers: Mapping[str, frozenset[Permission]]) -> None:
        self._callers = callers
        self._known = {}
        for listener in self._listeners:
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the callers were replaced."""
        self._listeners.append(listener)

    def permissions(self, caller: Caller) -> frozenset[Permission]:
        """What a caller identified earlier may do now: nothing, if it is not known any more."""
        try:
            return self._caller(caller.names).permissions
        except CallerUnauthenticatedError:
            return frozenset()

    def identify(self, peer: Peer) -> Caller:
        """The caller its certificate names.

        Raises `CallerUnauthenticatedError` for a peer without one, or one not known.
        """
        properties = peer.auth_context()
        names = (*properties.get("peer_uri", ()), *properties.get("peer_dns", ()))
        if not names:
            raise CallerUnauthenticatedError(
                "a client certificate with a SPIFFE ID or a DNS name is required"
            )
        return self._caller(names)

    def _caller(self, names: tuple[bytes, ...]) -> Caller:
        caller = self._known.get(names)
        if caller is None:
            caller = self._look_up(names)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[names] = caller
        return caller

    def _look_up(self, names: tuple[bytes, ...]) -> Caller:
        texts = [name.decode("utf-8", "replace") for name in names]
        found = [name for name in texts if self._permissions(name) is not None]
        if not found:
            raise CallerUnauthenticatedError("the names in the client certificate are not known here")
        permissions = frozenset[Permission]().union(*(self._permissions(name) or () for name in found))
        return Caller(", ".join(found), permissions, _identity(names), names)

    def _permissions(self, name: str) -> frozenset[Permission] | None:
        exact = self._callers.get(name)
        if exact is not None or not name.startswith("spiffe://"):
            return exact
        below = [
            permissions
            for identity, permissions in self._callers.items()
            if identity.endswith("/*") and name.startswith(identity[:-1])
        ]
        return frozenset[Permission]().union(*below) if below else None


def _identity(names: Iterable[bytes]) -> str:
    """All names of a certificate, in whatever order it has them. A renewed certificate has the same ones."""
    return base64url.encode(hashlib.sha256(repr(sorted(set(names))).encode()).digest())
