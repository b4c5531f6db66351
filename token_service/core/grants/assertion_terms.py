"""The terms of the tokens for an assertion: what its issuer says, within what the client is registered for."""

from __future__ import annotations

from typing import Final

from token_service.core.clients.client import JWT_BEARER, REFRESH_TOKEN, Client
from token_service.core.grants.assertion_profiles import Presented
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.registration import Registration
from token_service.core.grants.subjects import auth_context_of
from token_service.core.grants.trusted_issuers import AssertionKind
from token_service.core.issuing.commands import IssueCommand
from token_service.core.issuing.issuer import check_auth_context
from token_service.core.limits import MAX_SUBJECT, Checks
from token_service.core.validation.userinfo import OPENID
from token_service.errors import InvalidRequestError, PolicyViolationError
from token_service.tokens.claims import TokenKind

OFFLINE_ACCESS: Final = "offline_access"
"""The scope that asks for a refresh token (OpenID Connect Core 1.0, section 11)."""


class AssertionTerms:
    """Turns a verified assertion into a command to issue tokens."""

    def __init__(self, registration: Registration) -> None:
        self._registration = registration

    def command(
        self, client: Client, request: GrantRequest, presented: Presented, revision: int
    ) -> IssueCommand:
        """Return the command. `revision`: the sequence of the revocation log at which the assertion is judged.

        Raises `PolicyViolationError` for a scope or an audience that was asked for and is not allowed, the errors of
        `ProvedKeys.confirmation`, and `ValueError` with the problem of an assertion that can't become tokens.
        """
        issuer, claims = presented.issuer, presented.claims
        subject = issuer.subject.of(claims)
        if subject == client.client_id:
            # Its holder would act here as the client (see `gate.admit_as_client`).
            raise ValueError("its subject would be the client itself")
        context = auth_context_of(claims)
        checks = Checks()
        checks.text("subject", subject, MAX_SUBJECT, required=True)
        check_auth_context(checks, context)
        try:
            checks.done()
        except InvalidRequestError as error:
            raise ValueError(error.message) from None
        scopes = self._scopes(client, request, presented)
        kinds = {TokenKind.ACCESS}
        if OPENID in scopes:
            kinds.add(TokenKind.ID)
        if OFFLINE_ACCESS in scopes:
            kinds.add(TokenKind.REFRESH)
        return IssueCommand(
            subject=subject,
            client_id=client.client_id,
            audience=self._audience(client, request, presented),
            scopes=scopes,
            kinds=frozenset(kinds),
            auth_context=context,
            custom_claims={each.target: held for each in issuer.memberships if (held := each.of(claims))},
            client_context=request.origin,
            confirmation=request.keys.confirmation(client),
            session_id=presented.text("sid") if issuer.is_own else "",
            revision=revision,
            audit_fields={
                "grant_type": JWT_BEARER,
                "trusted_issuer": issuer.name,
                "assertion": presented.kind.value,
            },
        )

    def _scopes(self, client: Client, request: GrantRequest, presented: Presented) -> tuple[str, ...]:
        """Return the granted scopes: the requested ones, or all that client, issuer and ID-JAG have in common.

        `offline_access` must be asked for, and is ignored where no refresh token may be issued, as OpenID Connect Core
        1.0, section 11, says. So is `openid` where no ID token may be issued.
        """
        issuer = presented.issuer
        bounds = {f"the trusted issuer {issuer.name} may not give": issuer.scopes}
        if presented.kind is AssertionKind.ID_JAG and "scope" in presented.claims:
            bounds["the assertion does not give"] = tuple(presented.text("scope").split(" "))
        scopes = self._registration.scopes(client, request.scopes)
        if request.scopes:
            for scope in scopes:
                for problem, allowed in bounds.items():
                    if scope not in allowed:
                        raise PolicyViolationError(
                            f"scopes: {problem} {scope!r}", metadata={"field": "scopes"}
                        )
        ignored = set()
        if OFFLINE_ACCESS not in request.scopes or not _may_refresh(client, presented):
            ignored.add(OFFLINE_ACCESS)
        if issuer.is_own:
            ignored.add(OPENID)  # each ID token would give the next one, without end
        return tuple(
            scope
            for scope in scopes
            if scope not in ignored and all(scope in allowed for allowed in bounds.values())
        )

    def _audience(self, client: Client, request: GrantRequest, presented: Presented) -> tuple[str, ...]:
        """Return the audience: the requested one, within the `resource` of an ID-JAG."""
        if presented.kind is not AssertionKind.ID_JAG or "resource" not in presented.claims:
            return self._registration.audience(client, request.audience)
        value = presented.claims["resource"]
        resources = [value] if isinstance(value, str) else value
        if (
            not isinstance(resources, list)
            or not resources
            or not all(isinstance(each, str) and each for each in resources)
        ):
            raise ValueError("its resource is neither a text nor a list of texts")
        for each in request.audience:
            if each not in resources:
                raise PolicyViolationError(
                    f"audience: the assertion does not give {each!r}", metadata={"field": "audience"}
                )
        return self._registration.audience(client, request.audience or resources)


def _may_refresh(client: Client, presented: Presented) -> bool:
    return (
        presented.issuer.refresh_tokens
        and presented.kind is not AssertionKind.ID_JAG
        and REFRESH_TOKEN in client.grant_types
    )
