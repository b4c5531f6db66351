"""The JWT bearer grant: a client presents an assertion of a trusted issuer (RFC 7523, section 2.1).

The assertion is an ID token, an ID-JAG or a workload token. It says who the subject is; the registration of the client
and the entry of the issuer say what the tokens may be. An own ID token says it, too, but opens no session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from token_service.core.access.caller import Caller, Proof
from token_service.core.access.foreign_issuers import MAX_LIFETIME
from token_service.core.access.key_sources import KeySource
from token_service.core.access.used_ids import UsedIds
from token_service.core.access.workloads import WORKLOAD_TYPES
from token_service.core.clients.client import JWT_BEARER, Client
from token_service.core.clients.pairwise import PairwiseSubjects
from token_service.core.grants.assertion_profiles import Presented, problem_of
from token_service.core.grants.assertion_terms import AssertionTerms
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.registration import Registration
from token_service.core.grants.trusted_issuers import (
    ID_JAG_TYPE,
    AssertionKind,
    TrustedIssuer,
    TrustedIssuers,
)
from token_service.core.issuing.commands import GrantUsedError, IssuedTokens
from token_service.core.issuing.issuer import Issuer
from token_service.core.policies.rights import matches
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.tailer import Tailer
from token_service.core.validation.introspector import Introspector, TokenQuery
from token_service.errors import (
    GrantInvalidError,
    GrantTypeNotAllowedError,
    GrantTypeUnknownError,
    InvalidTokenError,
)
from token_service.tokens import base64url
from token_service.tokens.assertions import UnverifiedAssertion, parse_assertion, verify_assertion
from token_service.tokens.claims import TokenKind, VerifiedClaims

_TYPES: Final[Mapping[AssertionKind, tuple[str, ...]]] = {
    AssertionKind.ID_TOKEN: ("JWT",),
    AssertionKind.ID_JAG: (ID_JAG_TYPE,),
    AssertionKind.WORKLOAD: WORKLOAD_TYPES,
}


class AssertionGrant:
    """Issues tokens for assertions. Each assertion serves once, on all nodes."""

    def __init__(
        self,
        registration: Registration,
        issuer: Issuer,
        introspector: Introspector,
        tailer: Tailer,
        replica: Replica,
        used_ids: UsedIds,
        subjects: PairwiseSubjects,
        *,
        service: str,
    ) -> None:
        """`service`: the `iss` of this service, and the `aud` of assertions for it."""
        self._registration = registration
        self._terms = AssertionTerms(registration)
        self._issuer = issuer
        self._introspector = introspector
        self._tailer = tailer
        self._replica = replica
        self._used_ids = used_ids
        self._subjects = subjects
        self._service = service
        self.trusted = TrustedIssuers([], own=None, service=service)
        """The trusted issuers. May be replaced at any time."""

    async def grant(self, caller: Caller, request: GrantRequest, assertion: str, now: float) -> IssuedTokens:
        """Issue tokens for the subject of an assertion.

        Everything is checked before the use of the assertion is recorded, except what `Issuer.grant` checks. A client
        whose request fails there needs a new assertion.

        Raises `CallerUnauthenticatedError`, `GrantTypeNotAllowedError`, `GrantTypeUnknownError` while no issuer is
        trusted, `GrantInvalidError` with the check that failed, `PolicyViolationError` for scopes and audiences,
        `ForeignKeysUnavailableError`, and the errors of `Issuer.grant` and `ProvedKeys`.
        """
        if not self.trusted.names:
            raise GrantTypeUnknownError(
                "no issuer of assertions is trusted; add one to trusted_issuers of the policy file"
            )
        client = self._registration.admit(caller, JWT_BEARER)
        try:
            parsed = parse_assertion(assertion)
        except InvalidTokenError as error:
            raise _refused(error.message) from None
        issuer, keys, kind = self._find(caller, parsed)
        await self._tailer.catch_up()  # the subject may have been revoked at another node a moment ago
        revision = self._replica.applied
        if keys is None:
            claims = await self._introspect(assertion, client)
        else:
            claims = await _verify(parsed, keys, kind, now)
        accepted = self._audiences(issuer, kind, client)
        presented = Presented(kind, claims, issuer, client.client_id, accepted, now)
        problem = problem_of(presented)
        if problem:
            raise _refused(problem)
        try:
            command = self._terms.command(client, request, presented, revision)
        except ValueError as error:
            raise _refused(str(error)) from None
        if self._replica.revocations.is_revoked_since(command.subject, float(claims["iat"])):
            raise _refused("its subject was revoked after it was issued; the subject must authenticate again")
        await request.keys.record()
        if not issuer.reusable and not await self._use(parsed, presented):
            raise _refused("it was used before")
        try:
            return await self._issuer.grant(caller, command, now)
        except GrantUsedError as error:
            raise _refused(str(error)) from None

    def _find(
        self, caller: Caller, parsed: UnverifiedAssertion
    ) -> tuple[TrustedIssuer, KeySource | None, AssertionKind]:
        """Return the issuer that an assertion claims to be from, its keys, and the kind of the assertion."""
        found = self.trusted.find(parsed)
        if found is None:
            raise _refused("its issuer is not trusted")
        issuer, keys = found
        if not matches(issuer.clients, caller.client_id):
            raise _refused("its issuer is not trusted for this client")
        typ = parsed.header.get("typ")
        if isinstance(typ, str) and typ.lower().removeprefix("application/") == ID_JAG_TYPE:
            kind = AssertionKind.ID_JAG
        else:
            plain = [each for each in issuer.assertions if each is not AssertionKind.ID_JAG]
            kind = plain[0] if plain else AssertionKind.ID_JAG
            if kind is AssertionKind.ID_JAG:
                raise _refused(f"its typ is not {ID_JAG_TYPE}, the one kind that its issuer may issue")
        if kind not in issuer.assertions:
            raise _refused(f"its issuer may not issue the kind {kind}")
        if kind is AssertionKind.ID_JAG and caller.proof is Proof.CLIENT_ID:
            raise GrantTypeNotAllowedError("an ID-JAG needs a client that authenticates itself")
        return issuer, keys, kind

    def _audiences(self, issuer: TrustedIssuer, kind: AssertionKind, client: Client) -> tuple[str, ...]:
        if issuer.is_own:
            return (client.client_id,)
        if kind is AssertionKind.ID_JAG:
            return (self._service,)
        return issuer.audiences or (self._service,)

    async def _introspect(self, id_token: str, client: Client) -> Mapping[str, Any]:
        """Return the claims of a valid ID token of this service.

        Its session, its subject or its client may have been revoked, which a signature does not tell.
        """
        query = TokenQuery(id_token, audience=client.client_id, kind=TokenKind.ID)
        answer = await self._introspector.validate(Caller.system(), query)
        if answer.reason is not None or not isinstance(answer.claims, VerifiedClaims):
            why = "invalid" if answer.reason is None else answer.reason.value
            raise _refused(f"the ID token of this service is {why}")
        try:
            return {**answer.claims.payload, "sub": self._subjects.subject_of(answer.claims)}
        except InvalidTokenError as error:
            raise _refused(error.message) from None

    async def _use(self, parsed: UnverifiedAssertion, presented: Presented) -> bool:
        """Record the use of an assertion; return whether it is the first one.

        An assertion without `jti` is identified by its signed text. Its signature would not do: an ECDSA signature has a
        second form that verifies, too.
        """
        identifier = presented.text("jti") or base64url.encode(hashlib.sha256(parsed.signing_input).digest())
        issuer = presented.issuer.issuer or presented.issuer.trust_domain or self._service
        return await self._used_ids.use(
            f"grant:{issuer}", identifier, float(presented.claims["exp"]), presented.now
        )


async def _verify(
    parsed: UnverifiedAssertion, keys: KeySource, kind: AssertionKind, now: float
) -> Mapping[str, Any]:
    """Return the claims of an assertion of another issuer after verifying its signature, type and times."""
    key_set = await keys.keys(parsed.key_id)
    try:
        return verify_assertion(parsed, key_set, now=now, max_lifetime=MAX_LIFETIME, types=_TYPES[kind])
    except InvalidTokenError as error:
        raise _refused(error.message) from None


def _refused(problem: str) -> GrantInvalidError:
    return GrantInvalidError(f"the assertion is not accepted: {problem}")
