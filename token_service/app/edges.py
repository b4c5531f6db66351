"""The edges of a node: the services of gRPC, the limits and the TLS of both edges."""

from __future__ import annotations

from typing import Any

from starlette.routing import Route

from token_service.app.core import Core
from token_service.certificates.server import TlsFiles
from token_service.config import Settings
from token_service.core.access.authenticator import Authenticator
from token_service.core.clients.client import SecurityProfile, SubjectType
from token_service.core.keys.administration import SigningKeys
from token_service.core.revocation.followed_log import FollowedLog
from token_service.rpc.server.authorizer import Authorizer
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.rpc.server.service import Service
from token_service.rpc.services.admin.automatic import AutomaticPart
from token_service.rpc.services.admin.cluster import ClusterPart
from token_service.rpc.services.admin.configuration import ConfigurationPart
from token_service.rpc.services.admin.policies import PoliciesPart
from token_service.rpc.services.admin.revocations import RevocationsPart
from token_service.rpc.services.admin.subjects import SubjectsPart
from token_service.rpc.services.admin_service import AdminService
from token_service.rpc.services.audit_service import AuditService
from token_service.rpc.services.authorization_service import AuthorizationService
from token_service.rpc.services.client_service import ClientService
from token_service.rpc.services.event_service import EventService
from token_service.rpc.services.key_service import KeyService
from token_service.rpc.services.personal_access_token_service import PersonalAccessTokenService
from token_service.rpc.services.session_service import SessionService
from token_service.rpc.services.token_service import TokenService
from token_service.rpc.services.validation import Validation
from token_service.rpc.services.webhooks import WebhookMethods
from token_service.rpc.stream.event_readers import EventReaderServer
from token_service.rpc.stream.feed import Feed, FeedLimits
from token_service.telemetry import Metrics, Tracer
from token_service.telemetry.registry import REFUSALS, REQUEST_DURATION, VALIDATIONS
from token_service.web.edge import HttpEdge, RequestLimits
from token_service.web.oauth import discovery
from token_service.web.oauth.authorize import AuthorizationEndpoint
from token_service.web.oauth.browser_routes import browser_routes
from token_service.web.oauth.client_authentication import HttpCallers
from token_service.web.oauth.cors import Cors
from token_service.web.oauth.device import DeviceEndpoint
from token_service.web.oauth.end_session import EndSessionEndpoint
from token_service.web.oauth.global_revocation import GlobalRevocationEndpoint
from token_service.web.oauth.introspection import IntrospectionEndpoint
from token_service.web.oauth.key_proofs import HttpKeyProofs
from token_service.web.oauth.login_cookies import LoginCookies
from token_service.web.oauth.pages import Pages
from token_service.web.oauth.revocation import RevocationEndpoint
from token_service.web.oauth.routes import oauth_routes
from token_service.web.oauth.token import TokenEndpoint
from token_service.web.oauth.upstream_logout import UpstreamLogoutEndpoint, upstream_logout_route
from token_service.web.oauth.userinfo import UserInfoEndpoint
from token_service.web.peer import Peers, ProxyHeader, TrustedProxies
from token_service.web.security_events import SecurityEventEndpoint, security_event_route
from token_service.web.ssf.polls import PollEndpoint
from token_service.web.ssf.routes import ssf_routes
from token_service.web.ssf.streams import StreamEndpoints
from token_service.web.tls import TlsContext


def make_feed(core: Core, authorizer: Authorizer, limits: GrpcLimits) -> Feed:
    """Make the revocation streams of a node. Its core must be started."""
    return Feed(
        FollowedLog(core.log, core.replica, core.read_index, core.tailer),
        core.keyring,
        core.subscribers,
        authorizer,
        core.ports.clock,
        issuer=core.options.issuer,
        limits=FeedLimits(
            max_streams=limits.max_streams,
            max_streams_per_caller=limits.max_streams_per_caller,
            max_age=limits.stream_max_age,
            max_stall=limits.stream_max_stall,
            ring_capacity=limits.ring_capacity,
        ),
    )


def make_event_readers(core: Core, authorizer: Authorizer, limits: GrpcLimits) -> EventReaderServer:
    """Make the streams of events of a node."""
    return EventReaderServer(
        core.event_readers,
        core.replica,
        authorizer,
        core.ports.clock,
        max_age=limits.stream_max_age,
        max_stall=limits.stream_max_stall,
    )


def make_services(
    core: Core, feed: Feed, event_readers: EventReaderServer, metrics: Metrics
) -> list[Service]:
    """Make all gRPC services of a node."""
    clock, issuer = core.ports.clock, core.options.issuer
    return [
        TokenService(
            core.issuer,
            core.refresher,
            core.key_proofs,
            core.revoker,
            Validation(core.introspector, core.replica, clock, issuer, metrics.counter(VALIDATIONS)),
            core.confirmations,
            feed,
            clock,
        ),
        SessionService(core.sessions, core.session_updates, core.bulk_revocation, clock),
        PersonalAccessTokenService(core.personal_access_tokens, clock),
        KeyService(core.keyring, core.key_manager, core.revoker, clock, issuer),
        ClientService(core.client_administration, clock),
        AuditService(core.audit_reports),
        EventService(
            event_readers,
            WebhookMethods(core.webhooks.administration, core.webhooks.events, core.event_feed, clock),
        ),
        AdminService(
            [
                ClusterPart(core.cluster.overview, core.cluster.nodes, core.cluster.subscribers),
                ConfigurationPart(core.configuration_reports, core.access_reports),
                PoliciesPart(core.policy_administration, clock),
                RevocationsPart(
                    core.live_revocations,
                    core.revocation_previews,
                    SigningKeys(core.keyring, core.key_manager),
                    clock,
                ),
                AutomaticPart(core.automatic_previews, clock),
                SubjectsPart(core.subject_export, core.subject_erasure, clock),
            ]
        ),
        AuthorizationService(core.oauth.authorization_grants, core.oauth.login.challenges, clock),
    ]


def grpc_limits(settings: Settings, connections: int) -> GrpcLimits:
    """Return the limits of the gRPC server for a number of connections."""
    return GrpcLimits(
        max_message_bytes=settings.max_message_bytes,
        max_concurrent_calls=settings.max_concurrent_calls,
        max_calls_per_caller=settings.max_calls_per_caller or (settings.max_concurrent_calls + 1) // 2,
        max_streams=settings.max_streams,
        max_streams_per_caller=settings.max_streams_per_caller or (settings.max_streams + 1) // 2,
        stream_max_age=settings.stream_max_age,
        max_connections=connections,
        connection_max_age=settings.connection_max_age,
    )


def http_edge(settings: Settings, metrics: Metrics, tracer: Tracer | None) -> HttpEdge:
    """Return the wrapper of every HTTP endpoint."""
    duration = metrics.histogram(REQUEST_DURATION)
    proxies = TrustedProxies(
        networks=settings.trusted_proxies,
        header=ProxyHeader(settings.proxy_header),
        client_cert=settings.proxy_client_cert,
    )
    peers = Peers(proxies, require_tls=settings.is_production)
    limits = RequestLimits(max_requests=settings.max_concurrent_calls)
    return HttpEdge(limits, duration, peers, metrics.counter(REFUSALS), tracer)


def http_tls(settings: Settings) -> TlsContext | None:
    """Return the TLS context of HTTP, loaded; None without TLS. Raises `ConfigurationError`."""
    files = tls_files(settings)
    if not settings.http_tls or files is None:
        return None
    context = TlsContext(files)
    context.load()
    return context


def make_oauth_routes(
    core: Core,
    authenticator: Authenticator,
    edge: HttpEdge,
    *,
    certificates: bool = False,
    pages: Pages | None = None,
) -> list[Route]:
    """Return the routes of the OAuth endpoints; none if the issuer is no URL. The core need not be started.

    `certificates`: whether clients can authenticate themselves with a certificate.
    """
    issuer = core.options.issuer
    if not issuer.startswith(("https://", "http://")):
        return []
    keys = HttpKeyProofs(core.key_proofs, issuer)
    callers, pages, cookies = HttpCallers(authenticator, keys), pages or Pages(), LoginCookies(issuer)
    device = DeviceEndpoint(core.oauth.devices, callers, pages, cookies, core.ports.clock, issuer=issuer)
    authorization = AuthorizationEndpoint(
        core.oauth.login, callers, keys, pages, device, cookies, core.ports.clock, issuer=issuer
    )
    routes = oauth_routes(
        edge,
        TokenEndpoint(callers, keys, core.oauth.grants, core.ports.clock),
        IntrospectionEndpoint(callers, core.introspector, issuer),
        RevocationEndpoint(callers, core.token_revocation, core.ports.clock),
        GlobalRevocationEndpoint(callers, core.oauth.global_revocation, core.ports.clock),
        UserInfoEndpoint(core.oauth.userinfo, keys),
        Cors(core.clients),
        issuer=issuer,
        algorithms=lambda: sorted({str(key["alg"]) for key in core.keyring.jwks}),
        more=lambda: _optional_members(core, certificates=certificates),
    )
    logout = EndSessionEndpoint(core.oauth.end_session, pages, issuer=issuer)
    security_events = SecurityEventEndpoint(core.security_events)
    upstream_logout = UpstreamLogoutEndpoint(core.oauth.upstream_logout, core.ports.clock)
    return [
        *routes,
        *browser_routes(edge, authorization, device, logout, pages, issuer=issuer),
        upstream_logout_route(edge, upstream_logout, issuer=issuer),
        security_event_route(edge, security_events, issuer=issuer),
        *ssf_routes(
            edge,
            StreamEndpoints(callers, core.ssf.streams, issuer),
            PollEndpoint(callers, core.ssf.polls),
            issuer=issuer,
            pushes=core.ports.event_pushes is not None,
        ),
    ]


def _optional_members(core: Core, *, certificates: bool) -> dict[str, Any]:
    """Return the members of the discovery document that depend on the settings."""
    is_fapi = core.options.security_profile is SecurityProfile.FAPI2
    members: dict[str, Any] = discovery.with_certificates() if certificates else {}
    if core.oauth.login.upstreams.current:
        members |= discovery.authorization_members(core.options.issuer, must_push=is_fapi)
    if core.backchannel_logout is not None:
        members |= discovery.backchannel_logout_members()
    if core.ports.client_documents is not None:
        members[discovery.CLIENT_DOCUMENTS] = True
    if is_fapi:
        members |= discovery.fapi_members(certificates=certificates)
    if core.ports.pairwise_key is not None:
        members["subject_types_supported"] = [kind.value for kind in SubjectType]
    return members


def http_certificates(settings: Settings) -> bool:
    """Tell whether a client certificate reaches the HTTP endpoints: by TLS or by a trusted proxy."""
    return settings.tls_client_ca_file is not None and (settings.http_tls or settings.proxy_client_cert)


def tls_files(settings: Settings) -> TlsFiles | None:
    """Return the TLS files of the server; None without TLS."""
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return TlsFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
