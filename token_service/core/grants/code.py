"""The authorization code grant (RFC 6749, section 4.1.3) with PKCE (RFC 7636).

Invariants at any load, number of nodes and point of a crash:
- at most one session is ever opened for a code, and a code for a step-up opens none and raises its session once;
- a code whose exchange failed before its session existed can be exchanged again;
- a code that is presented again with its verifier revokes the session that was opened or raised for it.

A replay without the right verifier is refused and revokes nothing: codes appear in logs and histories of browsers, and
must not be enough to log a user out.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.clients.client import AUTHORIZATION_CODE, REFRESH_TOKEN, Client
from token_service.core.events.audit import Audit
from token_service.core.grants.codes import AuthorizationCode, Codes, StepUp
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.registration import Registration
from token_service.core.issuing.commands import GrantUsedError, IssueCommand, IssuedTokens, SingleUse
from token_service.core.issuing.issuer import Issuer
from token_service.core.issuing.raising import RaiseCommand, SessionRaiser
from token_service.core.revocation.drafts import draft_of, event_of
from token_service.core.revocation.revoker import Revoker
from token_service.core.validation.userinfo import OPENID
from token_service.errors import GrantInvalidError, InvalidRequestError, ScopeExceededError
from token_service.tokens import base64url
from token_service.tokens.claims import Confirmation, TokenKind
from token_service.tokens.revocation import RevocationReason, RevocationTarget

MIN_VERIFIER: Final = 43
MAX_VERIFIER: Final = 128
_VERIFIER: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
"""The characters of a code verifier (RFC 7636, section 4.1)."""


class CodeGrant:
    """Exchanges authorization codes for tokens. It always opens or raises a session, so that a logout can end it."""

    def __init__(
        self,
        registration: Registration,
        codes: Codes,
        issuer: Issuer,
        raiser: SessionRaiser,
        revoker: Revoker,
        audit: Audit,
    ) -> None:
        self._registration = registration
        self._codes = codes
        self._issuer = issuer
        self._raiser = raiser
        self._revoker = revoker
        self._audit = audit

    async def grant(
        self,
        caller: Caller,
        request: GrantRequest,
        *,
        code: str,
        redirect_uri: str,
        code_verifier: str,
        now: float,
    ) -> IssuedTokens:
        """Exchange a code. `redirect_uri` may be empty: the verifier takes its place (OAuth 2.1, section 10.2).

        The client gets a refresh token if it is registered for that grant, and an ID token for the scope `openid`.
        `resource` may narrow the audience of the access token (RFC 8707, section 2.2). Raises `GrantInvalidError`,
        `InvalidRequestError`, `CallerUnauthenticatedError`, `GrantTypeNotAllowedError`, `ScopeExceededError` and the
        errors of `Issuer.grant` and `ProvedKeys`. A request without the key of the code does not use it up.
        """
        client = self._registration.admit(caller, AUTHORIZATION_CODE)
        _check_verifier(code_verifier)
        content = await self._codes.read(code, now)
        _require_match(content, client, redirect_uri, code_verifier)
        extra = set(request.audience).difference(content.audience)
        if extra:
            raise ScopeExceededError(
                f"audience: the code is not for {min(extra)!r}", metadata={"field": "audience"}
            )
        request.keys.require(Confirmation(jkt=content.dpop_jkt), "the code")
        confirmation = request.keys.confirmation(client)
        await request.keys.record()
        if content.step_up is not None:
            command = _raise(content, content.step_up, client, request, confirmation)
            granted = self._raiser.grant(caller, command, now)
        else:
            granted = self._issuer.grant(caller, _command(content, client, request, confirmation), now)
        try:
            return await granted
        except GrantUsedError as error:
            await self._end(caller, error, request, now)
            raise GrantInvalidError(f"code: {error}") from None

    async def _end(self, caller: Caller, error: GrantUsedError, request: GrantRequest, now: float) -> None:
        """Revoke the session of a code that was presented twice, or whose subject was revoked meanwhile."""
        draft = draft_of(
            RevocationTarget.SESSION,
            error.session_id,
            now,
            reason=RevocationReason.COMPROMISED,
            comment=f"authorization code: {error}",
        )
        event = event_of(draft, caller.actor(), request.origin)
        await self._revoker.append([replace(draft, event=event)])
        self._audit.record(event)


def _command(
    content: AuthorizationCode, client: Client, request: GrantRequest, confirmation: Confirmation
) -> IssueCommand:
    return IssueCommand(
        subject=content.subject,
        client_id=client.client_id,
        audience=content.audience,
        access_token_audience=request.audience,
        scopes=content.scopes,
        kinds=kinds_of_code(client, content.scopes),
        auth_context=content.auth_context,
        custom_claims=content.custom_claims,
        identity_claims=content.identity_claims,
        upstream=content.upstream,
        upstream_session=content.upstream_session,
        nonce=content.nonce,
        client_context=request.origin,
        confirmation=confirmation,
        single_use=SingleUse(digest=content.digest, revision=content.revision),
        audit_fields={"grant_type": AUTHORIZATION_CODE},
    )


def _raise(
    content: AuthorizationCode,
    step_up: StepUp,
    client: Client,
    request: GrantRequest,
    confirmation: Confirmation,
) -> RaiseCommand:
    assert content.auth_context is not None
    return RaiseCommand(
        session_id=step_up.session_id,
        client_id=client.client_id,
        subject=content.subject,
        scopes=content.scopes,
        audience=request.audience or content.audience,
        before=step_up.before,
        auth_context=content.auth_context,
        grant_id=content.digest.hex(),
        expire_time=content.expire_time,
        nonce=content.nonce,
        with_id_token=OPENID in content.scopes,
        client_context=request.origin,
        keys=request.keys,
        confirmation=confirmation,
    )


def kinds_of_code(client: Client, scopes: Sequence[str]) -> frozenset[TokenKind]:
    """Return the kinds of token that a client gets for a code."""
    kinds = {TokenKind.ACCESS}
    if REFRESH_TOKEN in client.grant_types:
        kinds.add(TokenKind.REFRESH)
    if OPENID in scopes:
        kinds.add(TokenKind.ID)
    return frozenset(kinds)


def _check_verifier(verifier: str) -> None:
    if not MIN_VERIFIER <= len(verifier) <= MAX_VERIFIER or not _VERIFIER.issuperset(verifier):
        raise InvalidRequestError.of(
            "code_verifier", f"must have {MIN_VERIFIER} to {MAX_VERIFIER} letters, digits and - . _ ~"
        )


def _require_match(content: AuthorizationCode, client: Client, redirect_uri: str, verifier: str) -> None:
    """Raise `GrantInvalidError` unless the code was made for this client, redirect URI and verifier."""
    if content.client_id != client.client_id:
        raise GrantInvalidError("code: it was made for another client")
    if redirect_uri and content.redirect_uri != redirect_uri:
        raise GrantInvalidError("redirect_uri: it differs from the one of the authorization request")
    challenge = base64url.encode(hashlib.sha256(verifier.encode()).digest())
    if not hmac.compare_digest(challenge, content.code_challenge):
        raise GrantInvalidError("code_verifier: it does not match the challenge of the authorization request")
