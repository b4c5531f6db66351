"""Conversion of live revocations and previews."""

from __future__ import annotations

from typing import Final

from token_service.core.keys.manager import Retirement
from token_service.core.reports.previews import RevocationPreview
from token_service.core.reports.revocations import LiveRevocation
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.revocation.entries import EntryFilter
from token_service.errors import InvalidRequestError
from token_service.rpc.convert.requests import revocation_reason
from token_service.rpc.convert.responses import revocation
from token_service.rpc.convert.values import timestamp
from token_service.tokens.revocation import RevocationTarget
from token_service.v1 import admin_service_pb2 as pb

_TARGETS: Final = {
    "token_id": RevocationTarget.TOKEN_ID,
    "session_id": RevocationTarget.SESSION,
    "subject": RevocationTarget.SUBJECT,
    "client_id": RevocationTarget.CLIENT,
    "key_id": RevocationTarget.KEY,
    "everything": RevocationTarget.EVERYTHING,
}
_MAX_NAMES: Final = 20


def entry_filter(request: pb.ListRevocationsRequest) -> EntryFilter:
    """Convert the conditions of a ListRevocationsRequest. Raises `InvalidRequestError`."""
    if request.target and request.target not in _TARGETS:
        raise InvalidRequestError.of("target", f"is none of {', '.join(_TARGETS)}")
    return EntryFilter(
        target=_TARGETS.get(request.target), value=request.id, reason=revocation_reason(request.reason)
    )


def live_revocation(found: LiveRevocation) -> pb.LiveRevocation:
    """Build the message of a live revocation."""
    return pb.LiveRevocation(
        revocation=revocation(found.revocation), comment=found.comment, actor=found.actor
    )


def preview_command(request: pb.PreviewRevocationRequest) -> RevokeCommand:
    """Convert a PreviewRevocationRequest to the command that it previews."""
    chosen = request.WhichOneof("target")
    if chosen is None or (chosen == "everything" and not request.everything):
        return RevokeCommand()
    if chosen == "token":
        return RevokeCommand(token=request.token)
    value = "" if chosen == "everything" else getattr(request, chosen)
    return RevokeCommand(target=_TARGETS[chosen], value=value)


def preview_message(preview: RevocationPreview) -> pb.PreviewRevocationResponse:
    """Build the response to PreviewRevocation."""
    reach = preview.reach
    message = pb.PreviewRevocationResponse(
        target=preview.target,
        sessions=reach.sessions,
        accuracy=reach.accuracy.value,  # type: ignore[arg-type]  # numbered alike
        subjects=reach.subjects,
        clients=[client_id for client_id, _ in reach.top_clients],
        clients_count=reach.clients,
        subscribers=preview.subscribers,
        already_revoked=preview.already_revoked,
        warnings=preview.warnings,
    )
    if preview.tokens_expire_time is not None:
        message.tokens_expire_time.CopyFrom(timestamp(preview.tokens_expire_time))
    return message


def retirement_message(retirement: Retirement) -> pb.PreviewKeyRetirementResponse:
    """Build the response to PreviewKeyRetirement."""
    knowledge = retirement.knowledge
    message = pb.PreviewKeyRetirementResponse(
        allowed=not retirement.problem,
        problem=retirement.problem,
        subscribers_without_successor=knowledge.behind,
        subscribers=knowledge.behind_here[:_MAX_NAMES],
        nodes=knowledge.behind_nodes,
    )
    if retirement.tokens_expire_time is not None:
        message.tokens_expire_time.CopyFrom(timestamp(retirement.tokens_expire_time))
    if retirement.allow_time is not None:
        message.allow_time.CopyFrom(timestamp(retirement.allow_time))
    return message
