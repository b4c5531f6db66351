"""Authentication of registered clients by a secret, an assertion or a certificate.

A client that is unknown, disabled, of another method or wrong in its proof gets the same answer, so the answers
reveal no client. Failures are counted for each client and address, and slowed down. An IPv6 address counts as its /64 network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from token_service.clock import Clock
from token_service.core.access.certificates import CertifiedClients
from token_service.core.access.credentials import (
    AssertionProof,
    CertificateProof,
    ClientSecretProof,
    PublicClientProof,
)
from token_service.core.access.key_sources import KeySource
from token_service.core.access.quotas import RateQuota
from token_service.core.access.rates import network_of
from token_service.core.access.used_ids import UsedIds
from token_service.core.clients.client import AuthMethod, Client, ClientSecret, ClientState
from token_service.core.clients.client_secret import matching_secret
from token_service.core.clients.lookup import Clients
from token_service.core.clients.profile import assertion_algorithms, is_fapi, may_authenticate
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, Actor, AuditEvent, Origin, Outcome, Target
from token_service.core.limits import MAX_CLIENT_ID, MAX_TOKEN_ID
from token_service.errors import CallerUnauthenticatedError, InvalidTokenError, OverloadedError
from token_service.tokens.assertions import (
    ASSERTION_LEEWAY,
    UnverifiedAssertion,
    parse_assertion,
    verify_assertion,
)

MAX_ASSERTION_LIFETIME: Final = 300.0
"""Seconds that an assertion counts after its `iat`, and that `exp` may be ahead if it has no `iat`.

It bounds how long a `jti` must be remembered. Common clients (authlib) set `exp` an hour ahead.
"""
MAX_FAILURES: Final = 10
"""Failed attempts per client and address, and minute."""
FAILURE_WINDOW: Final = 60.0
RECORDED_PER_CLIENT: Final = 60
"""Failures of one client that are recorded a minute, from all addresses. Unknown clients share one limit."""
RECORDED_IN_ALL: Final = 600
"""Failures of all clients that are recorded a minute."""
MAX_ASSERTIONS_PER_NETWORK: Final = 600
"""Accepted assertions of clients that describe themselves, per network and `FAILURE_WINDOW`.

Each is a row in the database, and anyone can have such a client.
"""
MAX_ASSERTIONS_OF_STRANGERS: Final = 6000
"""Accepted assertions of all clients that describe themselves, per `FAILURE_WINDOW`."""
_ASSERTION_TYPES: Final = ("JWT", "client-authentication+jwt")
_REFUSED: Final = "the client authentication failed"

_DUMMY: Final = Client(
    client_id="", create_time=0, update_time=0, token_endpoint_auth_method=AuthMethod.CLIENT_SECRET_BASIC,
    secrets=(ClientSecret(secret_id="", hash=bytes(32), create_time=0),),
)  # fmt: skip
"""Compared with when a client is unknown, so that both answers take the same time."""

_ACTOR: Final = Actor("caller", "anonymous")


class ClientAuthenticator:
    """Authenticates clients that are registered, and those that a metadata document describes."""

    def __init__(
        self,
        clients: Clients,
        keys_of: Callable[[Client], KeySource],
        used_ids: UsedIds,
        clock: Clock,
        audit: Audit,
        *,
        issuer: str,
        endpoints: frozenset[str] = frozenset(),
        certificates: CertifiedClients | None = None,
    ) -> None:
        """`endpoints`: URLs that a client with `accepts_endpoint_audience` may name as `aud`.

        `certificates` finds clients by their certificate; None accepts none.
        """
        self._clients = clients
        self._keys_of = keys_of
        self._used_ids = used_ids
        self._clock = clock
        self._audit = audit
        self._issuer = issuer
        self._endpoints = endpoints
        self._certificates = certificates
        self._failures = RateQuota(
            "failed client authentications", MAX_FAILURES, FAILURE_WINDOW, clock.monotonic
        )
        self._of_client = RateQuota("recorded failures", RECORDED_PER_CLIENT, FAILURE_WINDOW, clock.monotonic)
        self._in_all = RateQuota("recorded failures", RECORDED_IN_ALL, FAILURE_WINDOW, clock.monotonic)
        self._of_network = RateQuota(
            "assertions of clients that describe themselves",
            MAX_ASSERTIONS_PER_NETWORK,
            FAILURE_WINDOW,
            clock.monotonic,
        )
        self._of_strangers = RateQuota(
            "assertions of all clients that describe themselves",
            MAX_ASSERTIONS_OF_STRANGERS,
            FAILURE_WINDOW,
            clock.monotonic,
        )
        self._unrecorded = 0

    def with_secret(self, proof: ClientSecretProof, address: str) -> tuple[Client, ClientSecret]:
        """Return the client with this secret, and the secret at rest.

        `address` is that of the peer. Raises `CallerUnauthenticatedError`, `OverloadedError` after many failures.
        """
        self._failures.require((proof.client_id, network_of(address)))
        client = self._active(proof.client_id, AuthMethod.CLIENT_SECRET_BASIC)
        secret = matching_secret(client or _DUMMY, proof.secret, self._clock.now())
        if client is None or secret is None:
            raise self._refuse(proof.client_id, address, "no live secret of an active client matches")
        return client, secret

    def accepts_again(self, client: Client, secret: ClientSecret, address: str) -> bool:
        """Tell whether a secret that was proved with a record of its client authenticates it now.

        Raises `OverloadedError` after many failures.
        """
        self._failures.require((client.client_id, network_of(address)))
        current = self._active(client.client_id, AuthMethod.CLIENT_SECRET_BASIC)
        return current is client and secret.is_live(self._clock.now())

    async def public(self, proof: PublicClientProof, address: str) -> Client:
        """Return the public client with this id.

        Raises `CallerUnauthenticatedError` also for a client that must authenticate itself, `OverloadedError` after
        many failures, and `ClientDocumentUnavailableError`.
        """
        self._failures.require((proof.client_id, network_of(address)))
        await self._clients.resolve(proof.client_id, network_of(address))
        client = self._active(proof.client_id, AuthMethod.NONE)
        if client is None:
            raise self._refuse(proof.client_id, address, "no active public client has this id")
        return client

    def has_certificate(self, client_id: str) -> bool:
        """Tell whether a client is registered to authenticate itself with a certificate."""
        return self._active(client_id, AuthMethod.TLS_CLIENT_AUTH) is not None

    def with_certificate(self, proof: CertificateProof, address: str) -> tuple[Client, float]:
        """Return the client with this certificate (RFC 8705, section 2.1), and when the certificate expires.

        Raises `CallerUnauthenticatedError`, `OverloadedError` after many failures.
        """
        self._failures.require((proof.client_id, network_of(address)))
        if self._certificates is None:
            raise self._refuse(proof.client_id, address, "no authority of client certificates is set")
        try:
            client, expire_time = self._certificates.client_of(proof.chain)
        except CallerUnauthenticatedError as error:
            raise self._refuse(proof.client_id, address, error.message) from None
        if client is None or client.client_id != proof.client_id:
            raise self._refuse(proof.client_id, address, "the certificate is not that of this client alone")
        return client, expire_time

    async def with_assertion(self, proof: AssertionProof, address: str) -> Client:
        """Return the client that signed an assertion (RFC 7523, section 3).

        `iss` and `sub` are the client, `aud` is the issuer as one text, and `jti` is used once. Raises
        `CallerUnauthenticatedError`, `OverloadedError` after many failures, `StoreUnavailableError`, and
        `ForeignKeysUnavailableError` or `ClientDocumentUnavailableError` if the keys or the metadata document of the
        client can't be fetched.
        """
        try:
            parsed = parse_assertion(proof.assertion)
        except InvalidTokenError as error:
            raise CallerUnauthenticatedError(f"client-assertion: {error.message}") from None
        client_id = parsed.text("sub")[:MAX_CLIENT_ID]
        self._failures.require((client_id, network_of(address)))
        await self._clients.resolve(client_id, network_of(address))
        client = self._active(client_id, AuthMethod.PRIVATE_KEY_JWT)
        if client is None:
            raise self._refuse(client_id, address, "unknown, disabled or registered for another method")
        key_set = await self._keys_of(client).keys(parsed.key_id)
        now = self._clock.now()
        try:
            claims = verify_assertion(
                parsed,
                key_set,
                now=now,
                max_lifetime=float("inf"),  # `_problem` checks it
                types=_ASSERTION_TYPES,
                algorithms=assertion_algorithms(client),
            )
        except InvalidTokenError as error:
            raise self._refuse(client_id, address, error.message) from None
        problem = self._problem(client, parsed) or _problem_of_time(_end(claims), now)
        if not problem and client.describes_itself:
            self._of_network.spend(network_of(address))
            self._of_strangers.spend(None)
        if not problem and not await self._used_ids.use(
            f"assertion:{client_id}", parsed.text("jti"), _end(claims), now
        ):
            problem = "jti was used before"
        if problem:
            raise self._refuse(client_id, address, problem)
        return client

    def _active(self, client_id: str, method: AuthMethod) -> Client | None:
        client = self._clients.get(client_id)
        if client is None or client.state is not ClientState.ACTIVE:
            return None
        return client if may_authenticate(client, method) else None

    def _problem(self, client: Client, parsed: UnverifiedAssertion) -> str:
        """Return the fault in the claims of a verified assertion; empty: none."""
        if parsed.text("iss") != client.client_id:
            return "iss is not the client"
        audience = parsed.text("aud")  # a list is refused: one of its members could replay the assertion
        accepts_endpoint = client.accepts_endpoint_audience and not is_fapi(client)
        if audience != self._issuer and not (accepts_endpoint and audience in self._endpoints):
            return "aud is not the issuer as one text"
        if not 0 < len(parsed.text("jti")) <= MAX_TOKEN_ID:
            return f"jti is missing or longer than {MAX_TOKEN_ID} characters"
        return ""

    def _refuse(self, client_id: str, address: str, problem: str) -> Exception:
        """Count and record a failure; return the error, which does not tell why.

        Raises `OverloadedError` if concurrent attempts have reached the limit meanwhile.
        """
        self._failures.spend((client_id, network_of(address)))
        known = self._clients.get(client_id)
        if known is not None and not may_authenticate(known, known.token_endpoint_auth_method):
            problem = f"its security profile does not allow {known.token_endpoint_auth_method}"
        is_known = known is not None
        try:
            self._of_client.spend(client_id if is_known else None)
            self._in_all.spend(None)
        except OverloadedError:  # a flood from many addresses must not fill the database or the log
            self._unrecorded += 1
            return CallerUnauthenticatedError(_REFUSED)
        unrecorded, self._unrecorded = self._unrecorded, 0
        event = AuditEvent(
            action=Action.CLIENT_AUTHENTICATION_FAILED,
            actor=_ACTOR,
            target=Target("client", client_id, client_id=client_id),
            outcome=Outcome.DENIED,
            origin=Origin(address),
            fields={"problem": problem, "unrecorded": unrecorded},
        )
        if is_known:
            self._audit.record_alone(event)
        else:
            self._audit.record(event)  # a flood of invented names must not fill the database
        return CallerUnauthenticatedError(_REFUSED)


def _end(claims: Mapping[str, Any]) -> float:
    """Return until when a verified assertion counts."""
    expire_time = float(claims["exp"])
    return min(expire_time, float(claims["iat"]) + MAX_ASSERTION_LIFETIME) if "iat" in claims else expire_time


def _problem_of_time(end: float, now: float) -> str:
    if end <= now:
        return f"iat is more than {MAX_ASSERTION_LIFETIME:g} s ago"
    if end > now + MAX_ASSERTION_LIFETIME + ASSERTION_LEEWAY:
        return f"exp is more than {MAX_ASSERTION_LIFETIME:g} s ahead, and iat is missing"
    return ""
