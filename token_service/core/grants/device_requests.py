"""The port to the requests of devices that wait for a user, and the decisions of these users.

A device code could carry its request, but the user types nothing but the user code, at any node. So a request has a row
from its beginning: without a subject until a user decides, and gone as soon as its tokens are issued.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from token_service.tokens.claims import AuthContext


class Approval(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The user who approved a device, as an upstream authenticated that user."""

    subject: str
    revision: int
    """The head of the revocation log at the login: a later revocation of the subject or the client ends the approval."""
    auth_context: AuthContext | None = None
    custom_claims: Mapping[str, Any] = {}
    identity_claims: Mapping[str, Any] = {}
    """Claims for the UserInfo endpoint."""
    upstream: str = ""
    upstream_session: str = ""
    """The upstream that authenticated the user, and its session there."""


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """The decision of a user about a device. Without an approval the device was denied."""

    approval: Approval | None = None


class DeviceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request of a device. Times are NumericDates."""

    user_code_digest: bytes
    code_digest: bytes
    """The digest of the device code that the request was made with."""
    client_id: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    expire_time: float
    decision: Decision | None = None
    """None: no user has decided."""


class DeviceRequests(Protocol):
    """The requests of devices, shared by all nodes. Every method raises `StoreUnavailableError`."""

    async def add(self, request: DeviceRequest) -> bool:
        """Add a request without a decision; return False, and change nothing, if its user code is taken."""
        ...

    async def find(self, user_code_digest: bytes) -> DeviceRequest | None:
        """Return a request, which may have expired."""
        ...

    async def decide(self, user_code_digest: bytes, decision: Decision, now: float) -> bool:
        """Record the decision about a request; return False if there is none that waits for a decision at `now`.

        Exactly one of any number of concurrent calls returns True, on any node.
        """
        ...

    async def remove(self, request: DeviceRequest) -> None:
        """Delete a request, unless another one has got its user code meanwhile."""
        ...

    async def purge(self, before: float, limit: int) -> int:
        """Delete at most `limit` requests that expired before a time; return their number."""
        ...
