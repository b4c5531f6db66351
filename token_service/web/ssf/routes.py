"""The routes of the Shared Signals Framework, and the document that names them."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from token_service.core.access.gate import UseCase
from token_service.core.event_streams.stream import DeliveryMethod
from token_service.core.event_streams.subjects import COMPLEX_MEMBERS
from token_service.web.edge import HttpEdge
from token_service.web.oauth.discovery import JWKS, issuer_path
from token_service.web.ssf.configurations import POLL
from token_service.web.ssf.polls import PollEndpoint
from token_service.web.ssf.requests import ssf_refusal
from token_service.web.ssf.streams import CONFIGURATION_METHODS, STATUS_METHODS, StreamEndpoints

WELL_KNOWN: Final = "/.well-known/ssf-configuration"
STREAMS: Final = "/ssf/streams"
STATUS: Final = "/ssf/status"
ADD_SUBJECT: Final = "/ssf/subjects:add"
REMOVE_SUBJECT: Final = "/ssf/subjects:remove"
VERIFY: Final = "/ssf/verify"
_MAX_AGE: Final = 300


def transmitter_configuration(issuer: str, *, pushes: bool) -> dict[str, Any]:
    """Return the transmitter configuration metadata (SSF 1.0, section 7.1). `pushes`: whether events can be pushed."""
    base = issuer.rstrip("/")
    methods = [each.value for each in DeliveryMethod if pushes or each is not DeliveryMethod.PUSH]
    return {
        "spec_version": "1_0",
        "issuer": issuer,
        "jwks_uri": f"{base}{JWKS}",
        "delivery_methods_supported": methods,
        "configuration_endpoint": f"{base}{STREAMS}",
        "status_endpoint": f"{base}{STATUS}",
        "add_subject_endpoint": f"{base}{ADD_SUBJECT}",
        "remove_subject_endpoint": f"{base}{REMOVE_SUBJECT}",
        "verification_endpoint": f"{base}{VERIFY}",
        "critical_subject_members": list(COMPLEX_MEMBERS),
        "default_subjects": "ALL",
        "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6749"}],
    }


def ssf_routes(
    edge: HttpEdge, streams: StreamEndpoints, polls: PollEndpoint, *, issuer: str, pushes: bool
) -> list[Route]:
    """Return the routes."""
    path = issuer_path(issuer)
    document = transmitter_configuration(issuer, pushes=pushes)

    async def configuration(_: Request) -> Response:
        return JSONResponse(document, headers={"Cache-Control": f"public, max-age={_MAX_AGE}"})

    return [
        edge.route(f"{WELL_KNOWN}{path}", UseCase.GET_DISCOVERY, configuration),
        *(
            edge.route(f"{path}{place}", None, answer, methods=methods, refuse=ssf_refusal)
            for place, answer, methods in (
                (STREAMS, streams.configuration, CONFIGURATION_METHODS),
                (STATUS, streams.status, STATUS_METHODS),
                (ADD_SUBJECT, streams.add_subject, ("POST",)),
                (REMOVE_SUBJECT, streams.remove_subject, ("POST",)),
                (VERIFY, streams.verify, ("POST",)),
                (f"{POLL}/{{stream_id}}", polls.answer, ("POST",)),
            )
        ),
    ]
