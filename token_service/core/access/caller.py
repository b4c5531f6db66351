"""The caller of a call, as authenticated."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from token_service.core.access.rights import Rights
from token_service.core.events.event import Actor
from token_service.core.policies.rights import Permission
from token_service.errors import PermissionDeniedError
from token_service.tokens.claims import VerifiedClaims


class Proof(StrEnum):
    """The method that authenticated a caller."""

    NONE = "none"
    """No authentication: every caller is trusted, in development on loopback."""
    CERTIFICATE = "certificate"
    """The private key of a client certificate."""
    CLIENT_SECRET = "client_secret"
    """The secret of a registered client (RFC 6749, section 2.3.1)."""
    CLIENT_ASSERTION = "client_assertion"
    """A JWT signed by a registered client (RFC 7523)."""
    CLIENT_ID = "client_id"
    """Only the id of a public client: no proof (RFC 6749, section 2.1)."""
    ACCESS_TOKEN = "access_token"
    """An access token that this service issued to a registered client for itself."""
    WORKLOAD_TOKEN = "workload_token"
    """A JWT of a trusted workload issuer."""
    CONSOLE_LOGIN = "console_login"
    """A login to the console, by the code flow of this service."""
    ISSUER_TOKEN = "issuer_token"
    """A JWT by which another issuer asks to revoke one of its subjects or sessions. Only HTTP accepts it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller: its name, the proof of its identity, and the expiry of the proof."""

    name: str
    """For logs."""
    rights: Rights
    """The rights when the caller was identified."""
    proof: Proof = Proof.NONE
    identity: str = ""
    """A key for the proved names, independent of their permissions. Quotas and subscribers use it.

    It has a fixed length; empty: callers can't be distinguished.
    """
    client_id: str = ""
    """The registered client that the caller is; empty: it is none."""
    expire_time: float = field(default=float("inf"), compare=False)
    """Seconds since the Unix epoch at which the proof expires, even on an open connection."""
    secret_id: str = ""
    """The client secret that was presented; empty: the proof was another one."""
    token: VerifiedClaims | None = field(default=None, compare=False, repr=False)
    """The claims of the access token that was presented; its revocation ends open streams."""
    certificate_thumbprint: str = field(default="", compare=False)
    """The `x5t#S256` of the client certificate that identified the caller; empty: the proof was another one."""
    kind: str = "caller"
    """The kind of its `Actor`."""

    @property
    def permissions(self) -> frozenset[Permission]:
        """The permissions, with or without bounds."""
        return self.rights.permissions

    @classmethod
    def system(cls) -> Caller:
        """Return the token service itself, for background jobs. It has all permissions."""
        return _SYSTEM

    @classmethod
    def operator(cls, name: str) -> Caller:
        """Return the operator `user@host` of a command on the database. It has all permissions."""
        return cls(name, Rights.everything(), kind="operator")

    @classmethod
    def anonymous(cls) -> Caller:
        """Return the unidentified caller, for calls open to every caller. It has no permissions."""
        return _ANONYMOUS

    def actor(self) -> Actor:
        """Return the actor of the audit events of this caller."""
        has_proof = self.kind == "caller" or self.proof is not Proof.NONE
        session_id = self.token.session_id if self.kind == "operator" and self.token is not None else ""
        return Actor(
            self.kind,
            self.name,
            self.client_id,
            proof=self.proof.value if has_proof else "",
            session_id=session_id,
        )

    def subscriber(self, subscriber_id: str) -> str:
        """Return the registered name of a subscriber of this caller: no other caller can confirm for it."""
        return f"{self.identity}:{subscriber_id}" if self.identity else subscriber_id

    def require(self, permission: Permission) -> None:
        """Raise `PermissionDeniedError` unless the caller has the permission."""
        if permission not in self.rights.permissions:
            raise PermissionDeniedError(
                f"this call needs the permission {permission.value}",
                metadata={"permission": permission.value},
            )


_SYSTEM: Final = Caller("system", Rights.everything(), kind="system")
_ANONYMOUS: Final = Caller("anonymous", Rights())
