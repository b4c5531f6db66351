"""The device authorization grant (RFC 8628, section 3.4): the polls of devices for their tokens.

Invariants at any load, number of nodes and point of a crash:
- at most one session is ever opened for a device code, and only after a user has approved it;
- a decision is never changed;
- a revocation of the subject or the client after the login of the user, and before the session, ends the session.

A device code that is presented again is refused, but revokes nothing: unlike an authorization code it never passes
through a browser, and clients repeat a poll whose response they did not get.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from token_service.core.access.caller import Caller
from token_service.core.clients.client import DEVICE_CODE
from token_service.core.events.audit import Audit
from token_service.core.grants.code import kinds_of_code
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.device_codes import DeviceCode, DeviceCodes
from token_service.core.grants.device_paces import Paces
from token_service.core.grants.device_requests import DeviceRequest, DeviceRequests
from token_service.core.grants.registration import Registration
from token_service.core.issuing.commands import GrantUsedError, IssueCommand, IssuedTokens, SingleUse
from token_service.core.issuing.issuer import Issuer
from token_service.core.revocation.drafts import draft_of, event_of
from token_service.core.revocation.revoker import Revoker
from token_service.errors import (
    AccessDeniedError,
    AuthorizationPendingError,
    DeviceCodeExpiredError,
    GrantInvalidError,
    ScopeExceededError,
    StoreUnavailableError,
)
from token_service.tokens.revocation import RevocationReason, RevocationTarget

logger = logging.getLogger(__name__)


class DeviceGrant:
    """Exchanges device codes for tokens. It always opens a session, so that a logout can end it."""

    def __init__(
        self,
        registration: Registration,
        codes: DeviceCodes,
        requests: DeviceRequests,
        issuer: Issuer,
        revoker: Revoker,
        audit: Audit,
        paces: Paces,
        available: Callable[[], bool],
    ) -> None:
        self._registration = registration
        self._codes = codes
        self._requests = requests
        self._issuer = issuer
        self._revoker = revoker
        self._audit = audit
        self._paces = paces
        self._available = available

    @property
    def is_available(self) -> bool:
        """Whether users can log in to approve devices."""
        return self._available()

    async def grant(
        self, caller: Caller, request: GrantRequest, device_code: str, now: float
    ) -> IssuedTokens:
        """Exchange a device code.

        A poll that waits for the user costs one read of the store. `resource` may narrow the audience of the access token
        (RFC 8707, section 2.2). Raises `AuthorizationPendingError`, `SlowDownError`, `AccessDeniedError`,
        `DeviceCodeExpiredError`, `GrantInvalidError`, `CallerUnauthenticatedError`, `GrantTypeNotAllowedError`,
        `ScopeExceededError` and the errors of `Issuer.grant` and `ProvedKeys`.
        """
        client = self._registration.admit(caller, DEVICE_CODE)
        code = await self._codes.read(device_code)
        if code.client_id != client.client_id:
            raise GrantInvalidError("device_code: it was made for another client")
        if code.expire_time <= now:
            self._paces.forget(code.digest)
            raise DeviceCodeExpiredError
        self._paces.poll(code.digest)
        found = await self._find(code)
        if found.decision is None:
            raise AuthorizationPendingError
        approval = found.decision.approval
        if approval is None:
            raise AccessDeniedError("the user denied the device")
        extra = set(request.audience).difference(found.audience)
        if extra:
            raise ScopeExceededError(
                f"audience: the code is not for {min(extra)!r}", metadata={"field": "audience"}
            )
        command = IssueCommand(
            subject=approval.subject,
            client_id=client.client_id,
            audience=found.audience,
            access_token_audience=request.audience,
            scopes=found.scopes,
            kinds=kinds_of_code(client, found.scopes),
            auth_context=approval.auth_context,
            custom_claims=approval.custom_claims,
            identity_claims=approval.identity_claims,
            upstream=approval.upstream,
            upstream_session=approval.upstream_session,
            client_context=request.origin,
            confirmation=request.keys.confirmation(client),
            single_use=SingleUse(digest=code.digest, revision=approval.revision),
            audit_fields={"grant_type": DEVICE_CODE},
        )
        await request.keys.record()
        try:
            issued = await self._issuer.grant(caller, command, now)
        except GrantUsedError as error:
            if error.is_revoked:
                await self._end(caller, error.session_id, request, now)
            raise GrantInvalidError(f"device_code: {error}") from None
        await self._forget(found)
        return issued

    async def _find(self, code: DeviceCode) -> DeviceRequest:
        found = await self._requests.find(code.user_code_digest)
        if found is None or found.code_digest != code.digest:
            raise GrantInvalidError("device_code: it was used before")
        return found

    async def _forget(self, request: DeviceRequest) -> None:
        """Delete a request whose tokens are issued. The session alone keeps its code from being used again."""
        self._paces.forget(request.code_digest)
        try:
            await self._requests.remove(request)
        except StoreUnavailableError as error:
            logger.warning("a used request of a device stays until the purge: %s", error.message)

    async def _end(self, caller: Caller, session_id: str, request: GrantRequest, now: float) -> None:
        """Revoke the session of a device whose subject or client was revoked since the login."""
        draft = draft_of(
            RevocationTarget.SESSION,
            session_id,
            now,
            reason=RevocationReason.COMPROMISED,
            comment="device code: its subject or client was revoked since the login",
        )
        event = event_of(draft, caller.actor(), request.origin)
        await self._revoker.append([replace(draft, event=event)])
        self._audit.record(event)
