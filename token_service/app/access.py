"""Callers, their rights and the policies, from files that are reloaded while the node runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cryptography.x509 import Certificate

from token_service.app.core import Core
from token_service.app.issuer_keys import IssuerKeys, trusted_issuers
from token_service.app.locations import Locations
from token_service.app.policy_changes import policy_changes
from token_service.app.security_events import Transmitters
from token_service.app.upstreams import IdentityProviders, current_upstreams
from token_service.certificates.server import server_names
from token_service.certificates.verification import CertificateVerifier
from token_service.clock import Clock
from token_service.config import Address, Settings
from token_service.config.policy_file import PolicyDocument, PolicyFile
from token_service.core.access.authenticator import Authenticator
from token_service.core.access.caller import Caller
from token_service.core.access.certificates import CertifiedClients
from token_service.core.access.client_authentication import ClientAuthenticator
from token_service.core.access.credentials import BearerProof
from token_service.core.access.document_clients import MAX_DOCUMENTS
from token_service.core.access.key_proofs import KeyProofs
from token_service.core.access.key_sources import KeySource
from token_service.core.access.operators import OperatorEntry
from token_service.core.access.rights import Rights
from token_service.core.access.workloads import Workloads
from token_service.core.administration.automatic.rules import AutomaticRules
from token_service.core.clients.client import Client
from token_service.core.clients.lookup import ClientLookup
from token_service.core.clients.secret_uses import SecretUses
from token_service.core.grants.assertion import AssertionGrant
from token_service.core.grants.trusted_issuers import TrustedIssuers
from token_service.core.login.oidc import OidcUpstream
from token_service.core.login.use_cases import Upstreams
from token_service.core.overrides.registry import OverrideRegistry
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import PolicyBook
from token_service.core.risk.rules import RiskRules
from token_service.core.risk.watch import RiskWatch
from token_service.core.security_events.receiver import SecurityEventReceiver
from token_service.core.security_events.transmitters import ConnectedTransmitter
from token_service.core.validation.introspector import Introspector, TokenQuery
from token_service.errors import CallerUnauthenticatedError, ConfigurationError
from token_service.fetching import client_documents
from token_service.fetching.client_keys import ClientKeys
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.rpc.server.authorizer import Authorizer, TrustingAuthorizer
from token_service.rpc.server.certificate_authorizer import CertificateAuthorizer
from token_service.rpc.server.client_authorities import ClientAuthorities
from token_service.rpc.server.proof_authorizer import ProofAuthorizer
from token_service.tokens.claims import TokenKind, VerifiedClaims
from token_service.web.oauth.discovery import endpoint_urls

if TYPE_CHECKING:
    from token_service.fetching.address_databases import AddressDatabases

logger = logging.getLogger(__name__)

Background = Mapping[str, Callable[[], Coroutine[Any, Any, None]]]


class Access:
    """The policies, the callers and the authorizer of a node. `background` keeps them up to date."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], clock: Clock) -> None:
        """Read the files. Raises `ConfigurationError`."""
        self._settings = settings
        self._clock = clock
        self.policy_file = PolicyFile.of(settings, environ)
        self._document = self.policy_file.load()
        self.policies = Policies(self._document.book)
        require_classification(settings, self._document)
        self._keys = IssuerKeys(clock)
        self._providers = IdentityProviders(clock, issuer=settings.issuer)
        self._transmitters = Transmitters(issuer=settings.issuer)
        self._authorities: ClientAuthorities | None = None
        self._certificates: CertificateVerifier | None = None
        self._certificate_authorizer: CertificateAuthorizer | None = None
        if settings.tls_client_ca_file is not None:
            self._authorities = ClientAuthorities(settings.tls_client_ca_file)
            self._certificates = CertificateVerifier(self._authorities.load(), clock)
        if settings.is_production:
            assert self._certificates is not None  # the settings require the authorities
            self._certificate_authorizer = CertificateAuthorizer(self._document.callers, self._certificates)
        self._authenticator: Authenticator | None = None
        self._authorizer: ProofAuthorizer | None = None
        self._uses: SecretUses | None = None
        self._upstreams: Upstreams | None = None
        self._assertions: AssertionGrant | None = None
        self._overrides: OverrideRegistry | None = None
        self._receiver: SecurityEventReceiver | None = None
        self._risk: RiskWatch | None = None
        self._locations = Locations()
        self._issuers(self._document)  # an unusable issuer must fail the start

    def authorizer(self, core: Core) -> Authorizer:
        """Make the authorizer of a node. Its core need not be started."""
        clock, stores = self._clock, core.ports.stores
        self._overrides = core.overrides
        # A file that the overrides contradicted may be in force now.
        self._overrides.on_change(self.policy_file.read_again)
        workloads, trusted, providers, transmitters = self._issuers(self._document)
        self._assertions = core.oauth.grants.assertion
        self._assertions.trusted = trusted
        self._uses = SecretUses(stores.clients, clock)
        keys_of = client_key_sources(core.clients, clock, allow_private=self._settings.allow_private_jwks_uri)
        authentication = ClientAuthenticator(
            core.known_clients,
            keys_of,
            stores.used_ids,
            clock,
            core.ports.audit,
            issuer=core.options.issuer,
            endpoints=endpoint_urls(core.options.issuer),
            certificates=None
            if self._certificates is None
            else CertifiedClients(self._certificates, core.clients),
        )
        self._authenticator = Authenticator(
            core.known_clients,
            authentication,
            _OwnTokens(core.introspector, core.key_proofs, core.options.issuer),
            issuer=core.options.issuer,
            workloads=workloads,
            callers=self._document.callers,
            note_use=self._uses.note,
        )
        if self._certificate_authorizer is not None:
            self._certificate_authorizer.clients = core.clients
        self._authorizer = ProofAuthorizer(
            self._authenticator,
            self._certificate_authorizer or TrustingAuthorizer(),
            hosts=own_hosts(self._settings, core.options.issuer),
        )
        core.clients.on_change(lambda _changed: self._clients_changed())
        self._risk = core.risk
        self._risk_changed(self._document.risk, self._locations.prepare(self._document.risk.locations))
        self._upstreams = core.oauth.login.upstreams
        self._upstreams_changed(self._document, providers)
        self._receiver = core.security_events
        self._receiver.transmitters = transmitters
        return self._authorizer

    @property
    def policy_problem(self) -> str:
        """Why the newest policy file or overrides are not in force. Empty: they are."""
        overrides = "" if self._overrides is None else self._overrides.problem
        return overrides or self.policy_file.problem

    @property
    def callers(self) -> Mapping[str, Rights]:
        """The rights of the callers of the policy file in force, by name."""
        return self._document.callers

    @property
    def automatic_rules(self) -> AutomaticRules:
        """The rules of automatic revocation of the policy file in force."""
        return self._document.automatic_rules

    @property
    def operators(self) -> Mapping[str, OperatorEntry]:
        """The operators of the policy file in force, by name."""
        return self._document.operators

    async def parse_policies(self, text: str) -> PolicyBook:
        """Return the policies of the text of a policy file that this node would accept. Raises `ConfigurationError`.

        Opens no file that the text names: the answer would tell a caller which files this node has.
        """
        document = await asyncio.to_thread(self.policy_file.parse, text.encode("utf-8", "surrogatepass"))
        require_classification(self._settings, document)
        trusted_issuers(document, IssuerKeys(self._clock).of(document), self._settings.issuer)
        return document.book

    @property
    def authenticator(self) -> Authenticator:
        """The authenticator of callers by proofs. Only after `authorizer`."""
        assert self._authenticator is not None
        return self._authenticator

    def background(self) -> Background:
        """The background tasks by name; each runs until cancelled."""
        tasks: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "policy-file": lambda: self.policy_file.watch(self._policies_changed),
            "address-databases": self._locations.run,
        }
        if (authorities := self._authorities) is not None:
            tasks["client-authorities"] = lambda: authorities.watch(self._authorities_changed)
        if (uses := self._uses) is not None:
            tasks["client-secret-uses"] = uses.run
        return tasks

    def _issuers(
        self, document: PolicyDocument
    ) -> tuple[Workloads, TrustedIssuers, Mapping[str, OidcUpstream], Mapping[str, ConnectedTransmitter]]:
        """Return the issuers, identity providers and transmitters of a document. Raises `ConfigurationError`."""
        keys = self._keys.of(document)
        workloads = [(each, keys[each.place]) for each in document.workload_issuers.values()]
        trusted = trusted_issuers(document, keys, self._settings.issuer)
        providers, transmitters = self._providers.of(document, keys), self._transmitters.of(document, keys)
        return Workloads(workloads, self._clock), trusted, providers, transmitters

    def _policies_changed(self, document: PolicyDocument) -> None:
        # First what may refuse the document.
        require_classification(self._settings, document)
        workloads, trusted, providers, transmitters = self._issuers(document)
        databases = self._locations.prepare(document.risk.locations)
        before, old = self._document, self.policies.book
        self.policies.replace_file(document.book)
        self._document = document
        if changes := policy_changes(before, document, old, self.policies.book):
            logger.info("the policies have changed: %s", changes)
        if self._overrides is not None:
            self._overrides.file_changed()
        self._risk_changed(document.risk, databases)
        if self._assertions is not None:
            self._assertions.trusted = trusted
        if self._receiver is not None:
            self._receiver.transmitters = transmitters
        self._upstreams_changed(document, providers)
        if self._authenticator is not None and self._authorizer is not None:
            self._authenticator.workloads = workloads
            self._authenticator.callers = document.callers
            self._authorizer.changed()
        if self._certificate_authorizer is not None:
            self._certificate_authorizer.callers = document.callers

    def _risk_changed(self, rules: RiskRules, databases: AddressDatabases | None) -> None:
        if self._risk is not None:
            self._risk.replace(rules)
            self._locations.use(rules.locations, databases, self._risk)

    def _upstreams_changed(self, document: PolicyDocument, providers: Mapping[str, OidcUpstream]) -> None:
        if self._upstreams is not None:
            self._upstreams.current = current_upstreams(document, providers, self._upstreams)

    def _authorities_changed(self, authorities: Sequence[Certificate]) -> None:
        assert self._certificates is not None
        self._certificates.authorities = authorities

    def _clients_changed(self) -> None:
        if self._certificate_authorizer is not None:
            self._certificate_authorizer.clients_changed()
        if self._authorizer is not None:
            self._authorizer.changed()


def own_hosts(settings: Settings, issuer: str) -> frozenset[str]:
    """Return the names and addresses of this service: those of its issuer, its addresses and its certificate.

    A certificate that is replaced later adds none.
    """
    hosts = {urlsplit(issuer).hostname or ""}
    hosts |= {
        address.host
        for name, address in settings.addresses
        if isinstance(address, Address) and name != "METRICS_ADDRESS"
    }
    if settings.tls_cert_file is not None:
        hosts |= server_names(settings.tls_cert_file)
    return frozenset(hosts - {""})


def client_key_sources(
    registered: ClientLookup, clock: Clock, *, allow_private: bool
) -> Callable[[Client], KeySource]:
    """Return a function that returns the source of the keys of a client, without I/O.

    `allow_private` is for registered clients only: a stranger's document must not make the node read private addresses.
    Fetches for strangers have limits of their own, so that they can't delay those for registered clients.
    """
    keys = ClientKeys(HttpFetcher(), clock, FetchRules(allow_private=allow_private))
    described = ClientKeys(HttpFetcher(), clock, client_documents.RULES, most=MAX_DOCUMENTS)
    return lambda client: (described if registered.get(client.client_id) is None else keys).of(client)


def require_classification(settings: Settings, document: PolicyDocument) -> None:
    """Raise `ConfigurationError` if the policy file lacks the classification of clients that describe themselves."""
    name, known = settings.client_metadata_document_classification, document.book.policies
    if name and name not in known:
        raise ConfigurationError(
            f"TOKEN_SERVICE_CLIENT_METADATA_DOCUMENT_CLASSIFICATION is {name}; it must be one of the policy file: "
            f"{', '.join(sorted(known))}"
        )


class _OwnTokens:
    """Validates access tokens whose audience is this service."""

    def __init__(self, introspector: Introspector, proofs: KeyProofs, issuer: str) -> None:
        self._introspector = introspector
        self._proofs = proofs
        self._issuer = issuer

    async def validate(self, proof: BearerProof) -> VerifiedClaims:
        """See `OwnTokens.validate`."""
        query = TokenQuery(
            proof.token, audience=self._issuer, kind=TokenKind.ACCESS, caller_checks_binding=True
        )
        answer = await self._introspector.validate(Caller.system(), query)
        if answer.reason is not None or not isinstance(answer.claims, VerifiedClaims):
            why = "invalid" if answer.reason is None else answer.reason.value
            raise CallerUnauthenticatedError(f"the bearer token is not accepted: {why}")
        self._proofs.check(answer.claims, proof.token, proof.presented, proof.scheme)
        return answer.claims
