"""Conversion of settings and of explanations of access."""

from __future__ import annotations

from token_service.core.access.explain import AskedCall, Explanation
from token_service.core.access.gate import UseCase
from token_service.core.limits import Checks
from token_service.core.policies.rights import May
from token_service.core.reports.configuration import EffectiveConfiguration
from token_service.rpc.convert.rights import right_message
from token_service.rpc.convert.values import set_timestamp
from token_service.suggestions import did_you_mean
from token_service.tokens.claims import TokenKind
from token_service.v1 import admin_service_pb2 as pb

_CALLS = {each.value: each for each in UseCase}
_KINDS = {kind.name.lower(): kind for kind in TokenKind}
_MAY = {each.value: each for each in May}


def effective_configuration(found: EffectiveConfiguration) -> pb.GetEffectiveConfigurationResponse:
    """Build the message of the settings of a node."""
    message = pb.GetEffectiveConfigurationResponse(
        node_id=found.node_id,
        settings=[
            pb.EffectiveSetting(
                name=each.name,
                value=each.value,
                source=each.source,
                reloadable=each.reloadable,
                pending_value=each.pending,
            )
            for each in found.settings
        ],
        reload_problem=found.reload_problem,
    )
    if found.reload_time is not None:
        set_timestamp(message.reload_time, found.reload_time)
    return message


def asked_call(request: pb.ExplainAccessRequest) -> AskedCall:
    """Return the call that a request asks about. Raises `InvalidRequestError`."""
    checks = Checks()
    if not request.names:
        checks.add("names", "is required")
    use_case = _CALLS.get(request.method)
    if use_case is None:
        problem = f"is no RPC of this service{did_you_mean(request.method, _CALLS)}"
        checks.add("method", problem if request.method else "is required")
    for field, values, known in (("token_types", request.token_types, _KINDS), ("uses", request.uses, _MAY)):
        for place, value in enumerate(values):
            if value not in known:
                checks.add(f"{field}[{place}]", f"is none of {', '.join(known)}{did_you_mean(value, known)}")
    checks.done()
    assert use_case is not None
    return AskedCall(
        use_case=use_case,
        client_id=request.client_id,
        subject=request.subject or request.client_id,
        audience=tuple(request.audience),
        scopes=tuple(request.scopes),
        token_types=[_KINDS[name] for name in request.token_types or ("access",)],
        uses=frozenset(_MAY[name] for name in request.uses),
    )


def access_explanation(answer: Explanation) -> pb.ExplainAccessResponse:
    """Build the message of an explanation."""
    return pb.ExplainAccessResponse(
        allowed=answer.allowed,
        reason=answer.why,
        permission="" if answer.permission is None else answer.permission.value,
        entries=answer.entries,
        rights=map(right_message, answer.rights),
    )
