"""Status of a validator, for health pages and operators."""

from __future__ import annotations

from dataclasses import dataclass

from token_service.client._internal.setup import Moment, Parts
from token_service.errors import Reason, ReplicaStaleError, TokenServiceError, ValidatorForkedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorStatus:
    """Status of a validator at one moment. Times are seconds; fields about the service are empty without a `ServiceIssuer`."""

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
    """Read the status. All fields belong to one moment."""
    moment = Moment.of(parts)
    service, view, elapsed = parts.service, moment.view, moment.at.elapsed
    standing = view.standing if view is not None else None
    outcomes = view.outcomes if view is not None else None
    error = outcomes.last_error if outcomes is not None else None
    proven_at = standing.feed.proven_at if standing is not None else float("-inf")
    return ValidatorStatus(
        ready=moment.is_ready,
        problem="" if moment.is_ready else _problem(parts, moment).message,
        connected=not moment.forked and outcomes is not None and outcomes.streaming,
        fresh=not moment.forked and view is not None and moment.is_fresh,
        staleness=elapsed - proven_at if proven_at > float("-inf") else None,
        cursor=str(standing.cursor) if standing is not None and standing.cursor is not None else "",
        keys_revision=standing.key_revision if standing is not None and standing.key_revision >= 0 else None,
        issuers_without_keys=moment.without_keys,
        target=service.target if service is not None else "",
        issuer=service.issuer if service is not None else "",
        issuer_seen=standing.issuer_seen if standing is not None else None,
        last_error=error.message if error is not None else None,
        last_error_reason=error.reason if error is not None else None,
        last_error_age=elapsed - outcomes.failed_at if outcomes is not None and error is not None else None,
    )


def why_not_ready(parts: Parts) -> TokenServiceError:
    """Return the error that explains why the validator is not ready."""
    return _problem(parts, Moment.of(parts))


def _problem(parts: Parts, moment: Moment) -> TokenServiceError:
    if moment.forked:
        return ValidatorForkedError()
    view = moment.view
    service_is_well = view is None or (view.standing.key_revision >= 0 and moment.is_fresh)
    if parts.contact is not None and view is not None and not service_is_well:
        cause = parts.contact.cause(view)
        if cause is not None:
            return cause
    if moment.without_keys:
        return ReplicaStaleError(f"no key set of {', '.join(moment.without_keys)} has been received yet")
    return ReplicaStaleError("the revocation replica is not proven complete yet")
