"""Composition of the use cases behind the OAuth endpoints."""

from __future__ import annotations

from dataclasses import dataclass

from token_service.app.ports import Ports
from token_service.core.access.key_proofs import KeyProofs
from token_service.core.administration.external_revocations import ExternalRevocations
from token_service.core.clients.admission import ClientAdmission
from token_service.core.clients.lookup import Clients
from token_service.core.clients.pairwise import PairwiseSubjects
from token_service.core.grants.assertion import AssertionGrant
from token_service.core.grants.authorization import AuthorizationGrants
from token_service.core.grants.client_credentials import ClientCredentials
from token_service.core.grants.code import CodeGrant
from token_service.core.grants.codes import Codes
from token_service.core.grants.device import DeviceGrant
from token_service.core.grants.device_authorization import DeviceAuthorizations
from token_service.core.grants.device_codes import DeviceCodes
from token_service.core.grants.device_paces import Paces
from token_service.core.grants.exchange import TokenExchange
from token_service.core.grants.global_revocation import GlobalRevocation
from token_service.core.grants.grants import Grants
from token_service.core.grants.personal_access import PERSONAL_ACCESS_TOKEN, PersonalAccessReader
from token_service.core.grants.presented import PresentedTokens
from token_service.core.grants.refresh import RefreshGrant
from token_service.core.grants.registration import Registration
from token_service.core.issuing.issuer import Issuer
from token_service.core.issuing.minter import Minter
from token_service.core.issuing.raising import SessionRaiser
from token_service.core.issuing.refresher import Refresher
from token_service.core.issuing.terms import Terms
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.opaque_tokens import OpaqueTokens
from token_service.core.keys.sealer import Sealer
from token_service.core.login.device_use_cases import DeviceUseCases
from token_service.core.login.devices import DeviceLogins
from token_service.core.login.step_up import LoginHints
from token_service.core.login.upstream_logout import UpstreamLogout
from token_service.core.login.use_cases import LoginUseCases, make_login_use_cases
from token_service.core.logout.end_session import EndSession
from token_service.core.revocation.key_lookups import KeyLookups
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.revoker import Revoker
from token_service.core.revocation.tailer import Tailer
from token_service.core.validation.id_token_hints import IdTokenHints
from token_service.core.validation.introspector import Introspector
from token_service.core.validation.userinfo import UserInfo
from token_service.tokens.verifier import Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthParts:
    """The parts of a node that these use cases are made of."""

    ports: Ports
    service: str
    """The `iss` of this service."""
    clients: Clients
    admission: ClientAdmission
    terms: Terms
    keyring: Keyring
    key_lookups: KeyLookups
    verifier: Verifier
    replica: Replica
    tailer: Tailer
    subjects: PairwiseSubjects
    minter: Minter
    opaque_tokens: OpaqueTokens
    issuer: Issuer
    refresher: Refresher
    revoker: Revoker
    external_revocations: ExternalRevocations
    introspector: Introspector
    key_proofs: KeyProofs


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthUseCases:
    """The use cases behind the OAuth endpoints of one node."""

    grants: Grants
    global_revocation: GlobalRevocation
    authorization_grants: AuthorizationGrants
    login: LoginUseCases
    devices: DeviceUseCases
    upstream_logout: UpstreamLogout
    userinfo: UserInfo
    end_session: EndSession


def make_oauth_use_cases(parts: OAuthParts) -> OAuthUseCases:
    """Compose the use cases, without I/O."""
    ports, service = parts.ports, parts.service
    stores, clock, entropy, audit = ports.stores, ports.clock, ports.entropy, ports.audit
    admission, terms, rates = parts.admission, parts.terms, parts.terms.rates
    keyring, key_lookups, verifier = parts.keyring, parts.key_lookups, parts.verifier
    replica, tailer, revoker = parts.replica, parts.tailer, parts.revoker
    subjects, minter, opaque_tokens = parts.subjects, parts.minter, parts.opaque_tokens
    issuer, refresher, introspector = parts.issuer, parts.refresher, parts.introspector
    registration = Registration(admission, service)

    def sealer(purpose: str) -> Sealer:
        return Sealer(keyring, key_lookups.look, entropy, purpose)

    codes = Codes(sealer("authorization code"), entropy)
    personal_access = PersonalAccessReader(stores.sessions, opaque_tokens, admission, clock)
    assertions = AssertionGrant(
        registration, issuer, introspector, tailer, replica, stores.used_ids, subjects, service=service
    )
    id_tokens = IdTokenHints(verifier, key_lookups.look)
    login = make_login_use_cases(
        admission,
        registration,
        codes,
        sealer,
        entropy,
        lambda: replica.applied,
        LoginHints(id_tokens, subjects),
        stores.sessions,
        issuer=service,
    )

    def can_log_in() -> bool:
        return bool(login.upstreams.current)

    device_codes = DeviceCodes(sealer("device code"), entropy)
    devices = DeviceUseCases(
        authorizations=DeviceAuthorizations(
            registration, device_codes, stores.device_requests, rates, can_log_in
        ),
        grant=DeviceGrant(
            registration,
            device_codes,
            stores.device_requests,
            issuer,
            revoker,
            audit,
            Paces(clock.monotonic),
            can_log_in,
        ),
        logins=DeviceLogins(
            login.logins,
            admission,
            stores.device_requests,
            rates,
            sealer("device page"),
            lambda: replica.applied,
        ),
    )
    return OAuthUseCases(
        grants=Grants(
            client_credentials=ClientCredentials(registration, issuer),
            code=CodeGrant(
                registration,
                codes,
                issuer,
                SessionRaiser(stores.sessions, stores.used_ids, minter, keyring, terms, audit),
                revoker,
                audit,
            ),
            device=devices.grant,
            refresh=RefreshGrant(registration, refresher),
            assertion=assertions,
            exchange=TokenExchange(
                registration,
                PresentedTokens(introspector, replica, {PERSONAL_ACCESS_TOKEN: personal_access.read}),
                terms,
                minter,
                audit,
                issuer=service,
            ),
        ),
        global_revocation=GlobalRevocation(
            revoker,
            lambda: assertions.trusted,
            stores.used_ids,
            service=service,
        ),
        authorization_grants=AuthorizationGrants(registration, admission, codes, replica, issuer=service),
        login=login,
        devices=devices,
        upstream_logout=UpstreamLogout(
            lambda: login.upstreams.current, parts.external_revocations, stores.used_ids
        ),
        userinfo=UserInfo(introspector, parts.key_proofs, stores.sessions, subjects, clock),
        end_session=EndSession(
            id_tokens,
            parts.clients,
            stores.sessions,
            revoker,
            sealer("logout return"),
            lambda: login.upstreams.current,
            clock,
        ),
    )
