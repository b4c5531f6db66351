"""Status of a validator, for health pages and operators."""

from __future__ import annotations

from dataclasses import dataclass

from token_service.client._internal.setup import Parts
from token_service.errors import Reason, ReplicaStaleError, TokenServiceError, ValidatorForkedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorStatus:
    """Status of a validator. Times are seconds; fields about the service are empty without a `ServiceIssuer`."""

    ready: bool
    """Every issuer has keys, and the replica is proven fresh."""
    problem: str
    """The reason why the validator is not ready, for people; empty if it is ready."""
    connected: bool
    """The revocation stream is open and has delivered a message."""
    fresh: bool
    """The replica is proven to be at most `Freshness.bound` old."""
    staleness: float | None
    """Age of the last proof of freshness; None: no proof yet."""
    cursor: str
    """Place in the revocation log up to which the replica is complete."""
    keys_revision: int | None
    """Revision of the service's key set in use; None: no key set yet."""
    issuers_without_keys: tuple[str, ...]
    """Issuers without a usable key set so far."""
    target: str
    issuer: str
    """The configured issuer."""
    issuer_seen: str | None
    """The issuer in the service's key set; None: no key set received yet."""
    last_error: str | None
    """Message of the last failed call to the service, as gRPC reports it; kept when later calls succeed."""
    last_error_reason: Reason | None
    last_error_age: float | None


def status_of(parts: Parts) -> ValidatorStatus:
    """Read the status."""
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
    """Return the error that explains why the validator is not ready."""
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
    return ReplicaStaleError("the revocation replica is not proven complete yet")


def _without_keys(parts: Parts) -> tuple[str, ...]:
    return tuple(name for name, state in parts.local.issuers.items() if not state.has_keys)
