"""Token exchange (RFC 8693): a client gets a token of its own for a token that it presents.

The new token never has more scopes than the subject token, never lives longer, and ends with its session. An access token
that comes of a bound token is bound, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import structs

from token_service.core.access.caller import Caller, Proof
from token_service.core.access.gate import admit_actor, admit_exchange, admit_exchange_as_client
from token_service.core.clients.client import TOKEN_EXCHANGE, Client
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, AuditEvent, Target
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.presented import (
    ACCESS_TOKEN,
    JWT,
    TRANSACTION_TOKEN,
    PresentedToken,
    PresentedTokens,
    not_accepted,
)
from token_service.core.grants.registration import Registration
from token_service.core.grants.transactions import CONTEXT_CLAIMS, transaction_of
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.issuing.issuer import token_type
from token_service.core.issuing.minter import Grant, MintedToken, Minter
from token_service.core.issuing.terms import Terms
from token_service.core.limits import MAX_ACTORS, MAX_AUDIENCE, MAX_AUDIENCES, Checks
from token_service.core.policies.custom_claims import check_custom_claims
from token_service.core.policies.policy import Policy
from token_service.core.policies.rates import Operation
from token_service.errors import (
    BindingRequiredError,
    GrantTypeNotAllowedError,
    InvalidReason,
    ScopeExceededError,
)
from token_service.tokens.claims import Confirmation, TokenKind

_REQUESTED: Final[Mapping[str, TokenKind]] = {
    "": TokenKind.ACCESS,
    ACCESS_TOKEN: TokenKind.ACCESS,
    JWT: TokenKind.ACCESS,
    TRANSACTION_TOKEN: TokenKind.TRANSACTION,
}
_CARRIED: Final = frozenset({"roles", "groups", "entitlements"})
"""Custom claims that every new token keeps (RFC 9068, section 2.2.3.1). The policy names others."""
_BEARER: Final = Confirmation()


class ExchangeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a token exchange (RFC 8693, section 2.1), besides those of every grant."""

    subject_token: str
    subject_token_type: str
    actor_token: str = ""
    actor_token_type: str = ""
    requested_token_type: str = ""
    request_context: str = ""
    request_details: str = ""

    def __repr__(self) -> str:
        return f"<ExchangeRequest {self.subject_token_type} -> {self.requested_token_type}>"


class ExchangedToken(msgspec.Struct, frozen=True, kw_only=True):
    """The new token, and the identifier of its type."""

    tokens: IssuedTokens
    issued_token_type: str


class TokenExchange:
    """Exchanges tokens. It opens no session and issues no refresh token."""

    def __init__(
        self,
        registration: Registration,
        presented: PresentedTokens,
        terms: Terms,
        minter: Minter,
        audit: Audit,
        *,
        issuer: str,
    ) -> None:
        self._registration = registration
        self._presented = presented
        self._clients = terms.clients
        self._rates = terms.rates
        self._policies = terms.clients.policies
        self._minter = minter
        self._audit = audit
        self._issuer = issuer

    async def grant(
        self, caller: Caller, request: GrantRequest, exchange: ExchangeRequest, now: float
    ) -> ExchangedToken:
        """Exchange a token.

        Raises `CallerUnauthenticatedError`, `GrantTypeNotAllowedError`, `InvalidRequestError`,
        `SubjectTokenInvalidError`, `ScopeExceededError`, `PermissionDeniedError`, `PolicyViolationError`,
        `BindingRequiredError`, `CustomClaimsTooLargeError`, `RateLimitedError`, `ClientDisabledError`,
        `SigningUnavailableError`, `StoreUnavailableError`, `ReplicaStaleError`, and those of `ProvedKeys`.
        """
        client = self._registration.admit(caller, TOKEN_EXCHANGE)
        kind = _check(request, exchange)
        if kind is TokenKind.TRANSACTION and caller.proof is Proof.CLIENT_ID:
            raise GrantTypeNotAllowedError("a transaction token needs a client that authenticates itself")
        actor: PresentedToken | None = None
        if exchange.actor_token:
            actor = await self._presented.actor(exchange.actor_token, exchange.actor_token_type, request.keys)
            admit_actor(caller, actor.client_id)
        subject = await self._presented.subject(
            exchange.subject_token, exchange.subject_token_type, client, request.keys
        )
        grant, policy = self._narrowed(caller, client, kind, request, subject, actor)
        if policy.rates or caller.rights.rates:
            await self._rates.take(
                caller,
                Operation.ISSUE,
                rates=policy.rates,
                client_id=client.client_id,
                subject=subject.subject,
                address=request.origin.ip_address,
            )
        # The client must be checked after the revision of the grant was read: a token that claims to know an entry of
        # the log must not be for a client that was disabled by it.
        own = subject.client_id == client.client_id
        self._clients.require(client.client_id, grant.scopes if own else ())
        remaining = int(subject.expire_time if actor is None else min(subject.expire_time, actor.expire_time))
        await request.keys.record()
        minted = await self._mint(kind, grant, policy, subject, exchange, now, remaining - int(now))
        self._record(caller, request, kind, grant, subject, actor, minted)
        return ExchangedToken(
            tokens=IssuedTokens(
                access_token=minted.token,
                token_type="N_A" if kind is TokenKind.TRANSACTION else token_type(grant.confirmation),
                access_token_expire_time=minted.expire_time,
                session_id=grant.session_id,
                token_id=minted.token_id,
                scopes=grant.scopes,
            ),
            issued_token_type=exchange.requested_token_type or ACCESS_TOKEN,
        )

    def _narrowed(
        self,
        caller: Caller,
        client: Client,
        kind: TokenKind,
        request: GrantRequest,
        subject: PresentedToken,
        actor: PresentedToken | None,
    ) -> tuple[Grant, Policy]:
        """Return the content of the new token and the policy of its client for its audience."""
        replaced = subject.kind is TokenKind.TRANSACTION
        if replaced and kind is not TokenKind.TRANSACTION:
            raise not_accepted(
                "subject_token",
                InvalidReason.WRONG_TYPE.value,
                "a transaction token is exchanged for a transaction token only",
            )
        audience = request.audience or subject.audience
        if replaced and set(audience) != set(subject.audience):
            raise ScopeExceededError(
                "audience: a transaction stays in its trust domain", metadata={"field": "audience"}
            )
        scopes = tuple(dict.fromkeys(request.scopes)) or tuple(sorted(subject.scopes))
        omits_client = admit_exchange(
            caller,
            owner=subject.client_id,
            held_audience=_held_audience(client, subject, kind),
            held_scopes=subject.scopes,
            audience=audience,
            scopes=scopes,
            kind=kind,
        )
        if kind is TokenKind.ACCESS and self._issuer in audience:
            admit_exchange_as_client(
                caller,
                subject=subject.subject,
                is_caller=subject.client_id == client.client_id and self._issuer in subject.audience,
            )
        policy = self._policies.of(client.client_id, audience)
        # The services that pass a transaction token on do not have the key of the client.
        confirmation = _BEARER
        if kind is TokenKind.ACCESS:
            confirmation = request.keys.confirmation(client) or subject.confirmation
        if policy.binding_required and not confirmation:
            raise BindingRequiredError
        claims = {
            name: value
            for name, value in subject.claims.items()
            if (name in _CARRIED or name in policy.allowed_custom_claims)
            and not (kind is TokenKind.TRANSACTION and name in CONTEXT_CLAIMS)
        }
        check_custom_claims(claims, policy.max_custom_claim_bytes)
        if subject.may_act is not None:
            self._require_may_act(client, subject, actor)
            claims["may_act"] = subject.may_act
        grant = Grant(
            subject=subject.subject,
            client_id=client.client_id,
            audience=audience,
            scopes=scopes,
            session_id=subject.session_id,
            revision=subject.revision,
            auth_context=subject.auth_context,
            confirmation=confirmation,
            custom_claims=claims,
            actor=_actor(client, subject, actor, omits_client=omits_client or kind is TokenKind.TRANSACTION),
        )
        self._minter.require_fit(grant, with_id_token=False, nonce="")
        return grant, policy

    def _require_may_act(self, client: Client, subject: PresentedToken, actor: PresentedToken | None) -> None:
        """Raise unless `may_act` of the subject token names the one that will act (RFC 8693, section 4.4)."""
        if actor is None and subject.client_id == client.client_id:
            return  # the client goes on as before
        named = subject.may_act
        who = client.client_id if actor is None else actor.subject
        client_id = client.client_id if actor is None else actor.client_id
        identity = {"iss": self._issuer, "sub": who, "client_id": client_id}
        if (
            not isinstance(named, dict)
            or "sub" not in named
            or any(identity.get(name) != value for name, value in named.items())
        ):
            raise not_accepted("subject_token", "MAY_ACT", f"its may_act does not name {who!r}")

    async def _mint(
        self,
        kind: TokenKind,
        grant: Grant,
        policy: Policy,
        subject: PresentedToken,
        exchange: ExchangeRequest,
        now: float,
        remaining: int,
    ) -> MintedToken:
        if kind is TokenKind.TRANSACTION:
            transaction = transaction_of(subject, exchange.request_context, exchange.request_details)
            ttl = min(policy.transaction_token_ttl, remaining)
            return await self._minter.transaction_token(grant, transaction, now, ttl)
        return await self._minter.access_token(grant, now, min(policy.access_token_ttl, remaining))

    def _record(
        self,
        caller: Caller,
        request: GrantRequest,
        kind: TokenKind,
        grant: Grant,
        subject: PresentedToken,
        actor: PresentedToken | None,
        minted: MintedToken,
    ) -> None:
        who = caller.actor()
        if actor is not None:
            who = structs.replace(who, on_behalf_of=actor.subject)
        self._audit.record(
            AuditEvent(
                action=Action.TOKEN_EXCHANGED,
                actor=who,
                target=Target("token", minted.token_id, grant.subject, grant.session_id, grant.client_id),
                origin=request.origin,
                fields={
                    "token_type": kind.name,
                    "classification": self._policies.classification(grant.client_id),
                    "from_client": subject.client_id,
                    "from_token": subject.token_id,
                    "actors": _depth(grant.actor),
                },
            )
        )


def _check(request: GrantRequest, exchange: ExchangeRequest) -> TokenKind:
    """Check the form of a request; return the kind of the requested token."""
    checks = Checks()
    kind = _REQUESTED.get(exchange.requested_token_type)
    if kind is None:
        checks.add("requested_token_type", f"must be one of {', '.join(filter(None, _REQUESTED))}")
    if bool(exchange.actor_token) != bool(exchange.actor_token_type):
        checks.add("actor_token_type", "must be sent together with actor_token")
    checks.texts("audience", request.audience, MAX_AUDIENCES, MAX_AUDIENCE)
    checks.scopes("scopes", tuple(dict.fromkeys(request.scopes)))
    if kind is TokenKind.TRANSACTION:
        if len(request.audience) != 1:
            checks.add("audience", "must name one trust domain")
        if not request.scopes:
            checks.add("scopes", "must name the purpose of the transaction")
    elif exchange.request_context or exchange.request_details:
        checks.add("request_context", "and request_details are for transaction tokens only")
    checks.done()
    assert kind is not None
    return kind


def _held_audience(client: Client, subject: PresentedToken, kind: TokenKind) -> Sequence[str]:
    """Return the audiences that a client may name for its own token without a right.

    A trust domain is rarely an audience of an access token, so the registration of the client names it.
    """
    if kind is TokenKind.TRANSACTION and subject.kind is not TokenKind.TRANSACTION:
        return client.audiences
    return [value for value in subject.audience if not client.audiences or value in client.audiences]


def _actor(
    client: Client, subject: PresentedToken, actor: PresentedToken | None, *, omits_client: bool
) -> Mapping[str, Any] | None:
    """Return `act` of the new token. Actors of the subject token stay in it (RFC 8693, section 4.1)."""
    if actor is None and omits_client:
        return subject.actor
    who: dict[str, Any] = _identity(client, actor)
    if subject.actor is not None:
        who["act"] = subject.actor
    if _depth(who) > MAX_ACTORS:
        raise not_accepted("subject_token", "ACTORS", f"a token names at most {MAX_ACTORS} actors")
    return who


def _identity(client: Client, actor: PresentedToken | None) -> dict[str, Any]:
    if actor is None:
        return {"sub": client.client_id}
    if actor.actor is not None:
        raise not_accepted("actor_token", "ACTORS", "the token names an actor itself")
    if actor.client_id == actor.subject:
        return {"sub": actor.subject}
    return {"sub": actor.subject, "client_id": actor.client_id}


def _depth(act: Any) -> int:
    depth = 0
    while isinstance(act, Mapping):
        depth, act = depth + 1, act.get("act")
    return depth
