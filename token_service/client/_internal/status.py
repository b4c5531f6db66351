"""What a validator says about itself, for health pages and operators."""

from __future__ import annotations

from dataclasses import dataclass

from token_service.client._internal.setup import Parts
from token_service.errors import Reason, ReplicaStaleError, TokenServiceError, ValidatorForkedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorStatus:
    """How a validator is doing now. Times are seconds; what only the service has is empty without one."""

    ready: bool
    """Every issuer has keys, and what is known is proven fresh."""
    problem: str
    """Why it is not ready, in words; empty if it is."""
    connected: bool
    """The revocation stream is open and has brought something."""
    fresh: bool
    """What is known of the service's revocations is proven to be at most `Freshness.bound` old."""
    staleness: float | None
    """Since what is known was last proven complete; None: never."""
    cursor: str
    """The place in the revocation log up to which everything is known."""
    keys_revision: int | None
    """Of the service's key set in use; None: none yet."""
    issuers_without_keys: tuple[str, ...]
    """Issuers of which no usable key set was received yet."""
    target: str
    issuer: str
    """As configured."""
    issuer_seen: str | None
    """The issuer that the service says it is; None: it has said nothing yet."""
    last_error: str | None
    """Why the last call to the service that failed did so, in gRPC's own words; kept when later ones succeed."""
    last_error_reason: Reason | None
    last_error_age: float | None


def status_of(parts: Parts) -> ValidatorStatus:
    """The status now."""
    service, follower_state, contact = parts.service, parts.follower_state, parts.contact
    now, elapsed = parts.clock.now(), parts.clock.elapsed()
    feed = follower_state.feed if follower_state is not None else None
    error = contact.last_error if contact is not None else None
    ready = parts.is_ready
    return ValidatorStatus(
        ready=ready,
        problem="" if ready else why_not_ready(parts).message,
        connected=not parts.forked and contact is not None and contact.streaming,
        fresh=not parts.forked and feed is not None and feed.is_fresh(now, elapsed),
        staleness=elapsed - feed.proven_at if feed is not None and feed.proven_at > float("-inf") else None,
        cursor=str(follower_state.cursor)
        if follower_state is not None and follower_state.cursor is not None
        else "",
        keys_revision=follower_state.key_revision
        if follower_state is not None and follower_state.key_revision >= 0
        else None,
        issuers_without_keys=_without_keys(parts),
        target=service.target if service is not None else "",
        issuer=service.issuer if service is not None else "",
        issuer_seen=contact.issuer_seen if contact is not None else None,
        last_error=error.message if error is not None else None,
        last_error_reason=error.reason if error is not None else None,
        last_error_age=elapsed - contact.failed_at if contact is not None and error is not None else None,
    )


def why_not_ready(parts: Parts) -> TokenServiceError:
    """What a validator that is not ready waits for."""
    if parts.forked:
        return ValidatorForkedError()
    service_is_well = (
        parts.service is None
        or parts.follower_state is None
        or (
            parts.follower_state.key_revision >= 0
            and parts.follower_state.feed.is_fresh(parts.clock.now(), parts.clock.elapsed())
        )
    )
    cause = parts.contact.cause() if parts.contact is not None and not service_is_well else None
    if cause is not None:
        return cause
    without = _without_keys(parts)
    if without:
        return ReplicaStaleError(f"no key set of {', '.join(without)} has been received yet")
    return ReplicaStaleError("it is not proven yet that every revocation is known here")


def _without_keys(parts: Parts) -> tuple[str, ...]:
    return tuple(name for name, state in parts.local.issuers.items() if not state.has_keys)
