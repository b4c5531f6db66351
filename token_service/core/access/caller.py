"""Whom a call proved to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from token_service.core.access.permissions import Permission
from token_service.errors import PermissionDeniedError


class Proof(StrEnum):
    """How a caller proved who it is."""

    NONE = "none"
    """Not at all: every caller is trusted, in development on loopback."""
    CERTIFICATE = "certificate"
    """By the private key of a client certificate."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One who calls: who, how that was proved, and until when the proof counts."""

    name: str
    """For logs."""
    permissions: frozenset[Permission]
    """At the time it was identified."""
    proof: Proof = Proof.NONE
    identity: str = ""
    """Stands for the proved names, whatever they permit now. Quotas and subscribers hang on it.

    Of one length; empty: callers can't be told apart.
    """
    expire_time: float = field(default=float("inf"), compare=False)
    """Seconds since the Unix epoch. From then on the proof counts no more, on an open connection either."""

    @classmethod
    def system(cls) -> Caller:
        """This service itself: commands without a node, and background jobs. It may do everything."""
        return _SYSTEM

    @classmethod
    def anonymous(cls) -> Caller:
        """A caller that is not identified, of calls that are open to every caller. It has no permissions."""
        return _ANONYMOUS

    def subscriber(self, subscriber_id: str) -> str:
        """The name a validator of this caller is registered by: no other caller can speak for it."""
        return f"{self.identity}:{subscriber_id}" if self.identity else subscriber_id

    def require(self, permission: Permission) -> None:
        """Raise `PermissionDeniedError` unless the caller has the permission."""
        if permission not in self.permissions:
            raise PermissionDeniedError(
                f"this call needs the permission {permission.value}",
                metadata={"permission": permission.value},
            )


_SYSTEM: Final = Caller("system", frozenset(Permission))
_ANONYMOUS: Final = Caller("anonymous", frozenset())
