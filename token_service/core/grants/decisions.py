"""The decision of a login service about its user: what it may say, whichever way it says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from token_service.core.access.caller import Caller
from token_service.core.access.gate import admit_as_client, admit_issue
from token_service.core.clients.client import Client
from token_service.core.grants.code import kinds_of_code
from token_service.core.policies.custom_claims import check_custom_claims, check_identity_claims
from token_service.core.policies.policies import Policies
from token_service.core.policies.rights import May
from token_service.tokens.claims import AuthContext


class Decision(Protocol):
    """A user, as a login service describes it."""

    @property
    def subject(self) -> str:
        """The subject of the tokens."""

    @property
    def auth_context(self) -> AuthContext | None:
        """The authentication of the subject."""

    @property
    def custom_claims(self) -> Mapping[str, Any]:
        """Claims for access and ID tokens."""

    @property
    def identity_claims(self) -> Mapping[str, Any]:
        """Claims for /userinfo."""


def admit_decision(
    caller: Caller,
    decision: Decision,
    client: Client,
    *,
    audience: Sequence[str],
    scopes: Sequence[str],
    policies: Policies,
    issuer: str,
) -> None:
    """Raise unless the caller may issue the tokens that a code of this decision stands for.

    Raises `PermissionDeniedError`, `ReservedClaimError`, `CustomClaimNotAllowedError`, `CustomClaimsTooLargeError`.
    """
    uses = set()
    if decision.auth_context is not None:
        uses.add(May.AUTH_CONTEXT)
    if decision.custom_claims or decision.identity_claims:
        uses.add(May.CUSTOM_CLAIMS)
    admit_issue(
        caller,
        subject=decision.subject,
        client_id=client.client_id,
        audience=audience,
        scopes=scopes,
        kinds=kinds_of_code(client, scopes),
        uses=frozenset(uses),
        issuer=issuer,
    )
    if decision.subject == client.client_id and issuer in audience:
        admit_as_client(caller, client.client_id)
    policy = policies.of(client.client_id, audience)
    check_custom_claims(decision.custom_claims, policy.max_custom_claim_bytes, policy.allowed_custom_claims)
    check_identity_claims(decision.identity_claims, policy.max_custom_claim_bytes)
