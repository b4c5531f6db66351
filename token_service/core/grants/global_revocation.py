"""Global token revocation: another system asks to end everything that a subject holds here.

draft-parecki-oauth-global-token-revocation. A caller with the right `revoke` for every client may name any subject. An
identity provider may name its own users by a JWT of its own, if its entry in `trusted_issuers` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from token_service.core.access.authenticator import identity_of
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.gate import UseCase, admit, deny_outside_clients
from token_service.core.access.rights import Rights
from token_service.core.access.used_ids import UsedIds
from token_service.core.grants.trusted_issuers import TrustedIssuer, TrustedIssuers
from token_service.core.limits import MAX_SUBJECT, MAX_TOKEN_ID, Checks
from token_service.core.policies.rights import Permission
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.revocation.revoker import Revoker
from token_service.errors import (
    CallerUnauthenticatedError,
    InvalidRequestError,
    InvalidTokenError,
    PermissionDeniedError,
)
from token_service.tokens.assertions import parse_assertion, verify_assertion
from token_service.tokens.revocation import RevocationReason, RevocationTarget

ENDPOINT: Final = "/global-token-revocation"
"""The path of the endpoint, below the issuer."""
REVOCATION_TYPE: Final = "global-token-revocation+jwt"
"""`typ` of the JWT by which an identity provider asks, as Okta's Universal Logout has it."""
MAX_REVOCATION_LIFETIME: Final = 600.0
"""Seconds that `exp` of this JWT may be ahead."""
_COMMENT: Final = "global token revocation"


@dataclass(frozen=True, slots=True)
class IssuerAndSubject:
    """The identifier `iss_sub` (RFC 9493, section 3.2.3)."""

    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class OpaqueIdentifier:
    """The identifier `opaque` (RFC 9493, section 3.2.4): a subject as this service names it."""

    id: str


@dataclass(frozen=True, slots=True)
class EmailIdentifier:
    """The identifier `email` (RFC 9493, section 3.2.2)."""

    email: str


SubjectIdentifier = IssuerAndSubject | OpaqueIdentifier | EmailIdentifier


class GlobalRevocation:
    """Revokes subjects. The subject need not be known, so no answer tells whether it is."""

    def __init__(
        self, revoker: Revoker, trusted: Callable[[], TrustedIssuers], used_ids: UsedIds, *, service: str
    ) -> None:
        """`trusted` returns the current trusted issuers. `service`: the issuer whose endpoint `aud` of a JWT names."""
        self._revoker = revoker
        self._trusted = trusted
        self._used_ids = used_ids
        self._endpoint = service.rstrip("/") + ENDPOINT

    async def revoke(self, caller: Caller, identifier: SubjectIdentifier, now: float) -> None:
        """Revoke a subject for a caller with the right.

        Raises `PermissionDeniedError`, `InvalidRequestError` for an identifier that names no subject here,
        `RateLimitedError`, `StoreUnavailableError`.
        """
        admit(caller, UseCase.REVOKE_TOKEN)
        if not caller.rights.are_unbounded(Permission.REVOKE):
            raise deny_outside_clients(Permission.REVOKE, "a subject")
        try:
            subject = self._subject(identifier)
        except ValueError as error:
            raise InvalidRequestError.of("sub_id", str(error)) from None
        checks = Checks()
        checks.text("sub_id", subject, MAX_SUBJECT, required=True)
        checks.done()
        command = RevokeCommand(
            target=RevocationTarget.SUBJECT,
            value=subject,
            reason=RevocationReason.ADMINISTRATIVE,
            comment=_COMMENT,
        )
        await self._revoker.revoke(caller, command, now)

    def _subject(self, identifier: SubjectIdentifier) -> str:
        match identifier:
            case OpaqueIdentifier(name):
                return name
            case IssuerAndSubject(issuer, subject):
                return self._trusted().subject_of(issuer, subject)
            case EmailIdentifier(email):
                return self._trusted().subject_with_email(email)

    async def revoke_for_issuer(self, token: str, identifier: SubjectIdentifier, now: float) -> None:
        """Revoke a subject of the trusted issuer that signed a JWT.

        Its `typ` is `global-token-revocation+jwt`, its `aud` is the endpoint as one text, and its `jti` is used once.
        Raises `CallerUnauthenticatedError`, `PermissionDeniedError` for a subject of another issuer, the errors of
        `revoke`, and `ForeignKeysUnavailableError`.
        """
        issuer = await self._issuer_of(token, now)
        if isinstance(identifier, IssuerAndSubject):
            is_its_own = identifier.issuer == issuer.issuer
        else:
            is_its_own = isinstance(identifier, EmailIdentifier) and issuer.subject.claims == {"email"}
        if not is_its_own:
            raise PermissionDeniedError(
                "a trusted issuer may revoke its own subjects only", metadata={"permission": "revoke"}
            )
        name = f"trusted_issuer:{issuer.name}"
        caller = Caller(name, Rights.of(Permission.REVOKE), Proof.ISSUER_TOKEN, identity_of(name))
        await self.revoke(caller, identifier, now)

    async def _issuer_of(self, token: str, now: float) -> TrustedIssuer:
        """Return the issuer of a valid JWT."""
        try:
            parsed = parse_assertion(token)
            found = self._trusted().find(parsed)
            issuer, keys = found or (None, None)
            if issuer is None or keys is None or not issuer.global_revocation:
                raise _refused("its issuer may not ask for revocations")
            key_set = await keys.keys(parsed.key_id)
            claims = verify_assertion(
                parsed, key_set, now=now, max_lifetime=MAX_REVOCATION_LIFETIME, types=(REVOCATION_TYPE,)
            )
        except InvalidTokenError as error:
            raise _refused(error.message) from None
        if "typ" not in parsed.header:
            raise _refused("it lacks typ")
        if parsed.text("aud") != self._endpoint:
            raise _refused("its aud is not the endpoint as one text")
        token_id = parsed.text("jti")
        if not 0 < len(token_id) <= MAX_TOKEN_ID:
            raise _refused(f"its jti is missing or longer than {MAX_TOKEN_ID} characters")
        if not await self._used_ids.use(f"revocation:{issuer.issuer}", token_id, float(claims["exp"]), now):
            raise _refused("it was used before")
        return issuer


def is_revocation_token(token: str) -> bool:
    """Tell whether a bearer token claims to be a JWT by which an identity provider asks for a revocation."""
    try:
        typ = parse_assertion(token).header.get("typ")
    except InvalidTokenError:
        return False
    return isinstance(typ, str) and typ.lower().removeprefix("application/") == REVOCATION_TYPE


def _refused(problem: str) -> CallerUnauthenticatedError:
    return CallerUnauthenticatedError(f"the JWT of the issuer is not accepted: {problem}")
