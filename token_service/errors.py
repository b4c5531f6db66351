"""The error tree of the package. It is independent of gRPC and HTTP; `wire` translates at the edges.

Each failure has a stable `Reason`. The names are those of `ErrorReason` in `error_reason.proto`; a test pins
each name to its gRPC status and its HTTP status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Reason(StrEnum):
    """The reason of a failed call. The names are stable: they are part of the contract."""

    INVALID_REQUEST = "INVALID_REQUEST"
    CALLER_UNAUTHENTICATED = "CALLER_UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESERVED_CLAIM = "RESERVED_CLAIM"
    CUSTOM_CLAIMS_TOO_LARGE = "CUSTOM_CLAIMS_TOO_LARGE"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    BINDING_REQUIRED = "BINDING_REQUIRED"
    REFRESH_TOKEN_INVALID = "REFRESH_TOKEN_INVALID"
    REFRESH_TOKEN_EXPIRED = "REFRESH_TOKEN_EXPIRED"
    SESSION_IDLE = "SESSION_IDLE"
    SESSION_REVOKED = "SESSION_REVOKED"
    REFRESH_TOKEN_REUSED = "REFRESH_TOKEN_REUSED"
    WRONG_CLIENT = "WRONG_CLIENT"
    WRONG_DEVICE = "WRONG_DEVICE"
    SCOPE_EXCEEDED = "SCOPE_EXCEEDED"
    TOO_MANY_RETRIES = "TOO_MANY_RETRIES"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    SESSION_NOT_ACTIVE = "SESSION_NOT_ACTIVE"
    STREAM_ENDED = "STREAM_ENDED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    REPLICA_STALE = "REPLICA_STALE"
    OVERLOADED = "OVERLOADED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    INTERNAL = "INTERNAL"
    SIGNING_UNAVAILABLE = "SIGNING_UNAVAILABLE"
    KEY_NOT_FOUND = "KEY_NOT_FOUND"
    POLICY_VIOLATION = "POLICY_VIOLATION"
    KEY_NOT_ANNOUNCED = "KEY_NOT_ANNOUNCED"
    KEY_STATE = "KEY_STATE"
    KEYS_STALE = "KEYS_STALE"
    UNREACHABLE = "UNREACHABLE"
    CLIENT_NOT_FOUND = "CLIENT_NOT_FOUND"
    CLIENT_EXISTS = "CLIENT_EXISTS"
    CLIENT_CHANGED = "CLIENT_CHANGED"
    POLICIES_CHANGED = "POLICIES_CHANGED"
    REFRESH_RACE = "REFRESH_RACE"
    RISK_REFUSED = "RISK_REFUSED"
    EVENTS_EXPIRED = "EVENTS_EXPIRED"
    EVENT_STREAM_NOT_FOUND = "EVENT_STREAM_NOT_FOUND"
    TOO_MANY_EVENT_STREAMS = "TOO_MANY_EVENT_STREAMS"
    WEBHOOK_NOT_FOUND = "WEBHOOK_NOT_FOUND"
    WEBHOOK_CHANGED = "WEBHOOK_CHANGED"
    CLIENT_DISABLED = "CLIENT_DISABLED"
    CUSTOM_CLAIM_NOT_ALLOWED = "CUSTOM_CLAIM_NOT_ALLOWED"
    FOREIGN_KEYS_UNAVAILABLE = "FOREIGN_KEYS_UNAVAILABLE"
    CLIENT_DOCUMENT_UNAVAILABLE = "CLIENT_DOCUMENT_UNAVAILABLE"
    RATE_LIMITED = "RATE_LIMITED"
    GRANT_INVALID = "GRANT_INVALID"
    GRANT_TYPE_NOT_ALLOWED = "GRANT_TYPE_NOT_ALLOWED"
    GRANT_TYPE_UNKNOWN = "GRANT_TYPE_UNKNOWN"
    ACCESS_DENIED = "ACCESS_DENIED"
    LOGIN_REQUIRED = "LOGIN_REQUIRED"
    CONSENT_REQUIRED = "CONSENT_REQUIRED"
    RESPONSE_TYPE_UNKNOWN = "RESPONSE_TYPE_UNKNOWN"
    AUTHENTICATION_INSUFFICIENT = "AUTHENTICATION_INSUFFICIENT"
    AUTHORIZATION_PENDING = "AUTHORIZATION_PENDING"
    SLOW_DOWN = "SLOW_DOWN"
    DEVICE_CODE_EXPIRED = "DEVICE_CODE_EXPIRED"
    SUBJECT_TOKEN_INVALID = "SUBJECT_TOKEN_INVALID"
    PUSHED_REQUEST_REQUIRED = "PUSHED_REQUEST_REQUIRED"
    UPSTREAM_UNAVAILABLE = "UPSTREAM_UNAVAILABLE"
    PROOF_INVALID = "PROOF_INVALID"
    PROOF_NONCE_REQUIRED = "PROOF_NONCE_REQUIRED"
    WRONG_KEY = "WRONG_KEY"


class InvalidReason(StrEnum):
    """The reason a token is invalid. The names are those of `InvalidReason` in `token_service.proto`."""

    MALFORMED = "MALFORMED"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    EXPIRED = "EXPIRED"
    NOT_YET_VALID = "NOT_YET_VALID"
    WRONG_ISSUER = "WRONG_ISSUER"
    WRONG_AUDIENCE = "WRONG_AUDIENCE"
    INSUFFICIENT_SCOPE = "INSUFFICIENT_SCOPE"
    REVOKED = "REVOKED"
    WRONG_TYPE = "WRONG_TYPE"
    UNKNOWN_SESSION = "UNKNOWN_SESSION"
    SUPERSEDED = "SUPERSEDED"
    TOO_LARGE = "TOO_LARGE"
    PROOF_MISSING = "PROOF_MISSING"
    PROOF_INVALID = "PROOF_INVALID"
    PROOF_NONCE = "PROOF_NONCE"
    WRONG_KEY = "WRONG_KEY"
    MISSING_ROLE = "MISSING_ROLE"
    INSUFFICIENT_AUTHENTICATION = "INSUFFICIENT_AUTHENTICATION"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of a request that breaks its rules.

    `field` is the path in the request, e.g. `auth_context.amr[3]`; `description` names the broken rule.
    """

    field: str
    description: str


class TokenServiceError(Exception):
    """The root of all errors that this package raises on purpose.

    `message` is safe to show to the caller: it never contains a token, a key or a secret.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigurationError(TokenServiceError):
    """The configuration is unusable. The message names the setting, its value and the allowed values."""


class NewerSchemaError(ConfigurationError):
    """The schema of the database is newer than this version of the token service, which can't go back."""


class ValidatorForkedError(TokenServiceError):
    """The validator was started before this process was forked, so it gets no updates in this process."""

    def __init__(self) -> None:
        super().__init__(
            "the validator was started before this process was forked, so it gets no updates in this process: start "
            "it after the fork, e.g. in post_worker_init of gunicorn"
        )


class InvalidTokenError(TokenServiceError):
    """A token is invalid now. `reason` is the stable reason; the message explains it."""

    def __init__(self, reason: InvalidReason, message: str = "") -> None:
        super().__init__(message or reason.value)
        self.reason = reason


class ServiceError(TokenServiceError):
    """A call failed for a reason that is part of the contract.

    `metadata` is shown to the caller. `retry_after` is the delay in seconds after which a retry may succeed, or
    None if a retry can't succeed.
    """

    reason: ClassVar[Reason]
    default_message: ClassVar[str]

    def __init__(
        self,
        message: str | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message or self.default_message)
        self.metadata: Mapping[str, str] = metadata or {}
        self.retry_after = retry_after


class InvalidRequestError(ServiceError):
    """A field of the request breaks its rules."""

    reason = Reason.INVALID_REQUEST
    default_message = "the request is invalid"

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations: tuple[FieldViolation, ...] = tuple(violations)

    @classmethod
    def of(cls, field: str, description: str) -> InvalidRequestError:
        """Return the error for a single field."""
        return cls([FieldViolation(field, description)])


class CallerUnauthenticatedError(ServiceError):
    """The caller sent no credentials, or credentials that do not verify."""

    reason = Reason.CALLER_UNAUTHENTICATED
    default_message = "the caller is not authenticated"


class PermissionDeniedError(ServiceError):
    """The caller lacks a permission."""

    reason = Reason.PERMISSION_DENIED
    default_message = "the caller lacks the permission for this call"


class ReservedClaimError(ServiceError):
    """A custom claim has a name that the token service sets itself."""

    reason = Reason.RESERVED_CLAIM
    default_message = "a custom claim has a reserved name"


class CustomClaimsTooLargeError(ServiceError):
    """The custom claims are larger or deeper than the policy allows."""

    reason = Reason.CUSTOM_CLAIMS_TOO_LARGE
    default_message = "the custom claims are too large"


class CustomClaimNotAllowedError(ServiceError):
    """A custom claim has a name that the policy does not allow, or the name of a secret."""

    reason = Reason.CUSTOM_CLAIM_NOT_ALLOWED
    default_message = "a custom claim is not allowed"


class RequestIdReusedError(ServiceError):
    """A request_id was used for another request."""

    reason = Reason.REQUEST_ID_REUSED
    default_message = "the request_id was used for another request"


class BindingRequiredError(ServiceError):
    """The policy, the registration of the client or the session requires a key, and the request names or proves none."""

    reason = Reason.BINDING_REQUIRED
    default_message = (
        "the client's policy requires tokens that are bound to a key; send a DPoP proof or a confirmation key"
    )


class ProofInvalidError(ServiceError):
    """The DPoP proof of the request is not accepted (RFC 9449, section 4.3). The client may try again with a new one."""

    reason = Reason.PROOF_INVALID
    default_message = "the DPoP proof is not accepted"


class ProofNonceRequiredError(ServiceError):
    """The DPoP proof of the request lacks the current nonce (RFC 9449, section 8). The metadata has the `dpop_nonce`."""

    reason = Reason.PROOF_NONCE_REQUIRED
    default_message = "the DPoP proof must have the current nonce of the token service"


class WrongKeyError(ServiceError):
    """The request proves another key than the one that the session, the code or the token is bound to."""

    reason = Reason.WRONG_KEY
    default_message = "the request proves another key than the one that its token or code is bound to"


class PolicyViolationError(ServiceError):
    """The policy of the client does not allow the request."""

    reason = Reason.POLICY_VIOLATION
    default_message = "the client's policy does not allow this"


class RefreshTokenInvalidError(ServiceError):
    """The text is not a refresh token of this token service."""

    reason = Reason.REFRESH_TOKEN_INVALID
    default_message = "the refresh token is invalid"


class RefreshTokenExpiredError(ServiceError):
    """The absolute lifetime of the session is over."""

    reason = Reason.REFRESH_TOKEN_EXPIRED
    default_message = "the refresh token has expired"


class SessionIdleError(ServiceError):
    """The session was unused for longer than its idle timeout."""

    reason = Reason.SESSION_IDLE
    default_message = "the session was idle for too long"


class SessionRevokedError(ServiceError):
    """The session was revoked."""

    reason = Reason.SESSION_REVOKED
    default_message = "the session was revoked"


class RefreshTokenReusedError(ServiceError):
    """A superseded refresh token was presented after the grace window. Its session is now revoked."""

    reason = Reason.REFRESH_TOKEN_REUSED
    default_message = "the refresh token was used before; the session is revoked"


class RefreshRaceError(ServiceError):
    """A superseded refresh token was presented soon after the grace window, from where its session is used lawfully.

    The session goes on. The caller may retry with the newest refresh token of the session.
    """

    reason = Reason.REFRESH_RACE
    default_message = "the refresh token was replaced a moment ago; use the newest one of this session"


class RiskRefusedError(ServiceError):
    """The rules about risk refuse this use. The session goes on, and the audit trail has the evidence."""

    reason = Reason.RISK_REFUSED
    default_message = "the use is refused by the rules about risk; log in again, or ask an operator"


class WrongClientError(ServiceError):
    """The refresh token belongs to another client."""

    reason = Reason.WRONG_CLIENT
    default_message = "the refresh token belongs to another client"


class WrongDeviceError(ServiceError):
    """The session is bound to another device."""

    reason = Reason.WRONG_DEVICE
    default_message = "the session is bound to another device"


class ScopeExceededError(ServiceError):
    """The request asks for a scope or an audience that the session or the subject token does not have."""

    reason = Reason.SCOPE_EXCEEDED
    default_message = "the request asks for a scope or an audience that the session does not have"


class TooManyRetriesError(ServiceError):
    """The caller retried too often with one superseded token inside the grace window."""

    reason = Reason.TOO_MANY_RETRIES
    default_message = "too many retries with the same refresh token"


class SessionNotFoundError(ServiceError):
    """No session has this id."""

    reason = Reason.SESSION_NOT_FOUND
    default_message = "no session has this id"


class SessionNotActiveError(ServiceError):
    """The session is expired or revoked."""

    reason = Reason.SESSION_NOT_ACTIVE
    default_message = "the session is expired or revoked"


class KeyNotFoundError(ServiceError):
    """No signing key has this id."""

    reason = Reason.KEY_NOT_FOUND
    default_message = "no signing key has this id"


class KeyNotAnnouncedError(ServiceError):
    """The key may still be unknown to some validators."""

    reason = Reason.KEY_NOT_ANNOUNCED
    default_message = "the key was not published for long enough"


class KeyStateError(ServiceError):
    """The state of the key does not allow the operation."""

    reason = Reason.KEY_STATE
    default_message = "the key's state does not allow this"


class StreamEndedError(ServiceError):
    """The token service ended the stream. A subscriber resumes it with its last cursor."""

    reason = Reason.STREAM_ENDED
    default_message = "the token service ended the stream; reconnect with the last cursor"


class EventsExpiredError(ServiceError):
    """Events after the cursor were deleted after their retention.

    The metadata has the `earliest_cursor` that can be read from.
    """

    reason = Reason.EVENTS_EXPIRED
    default_message = "events after the cursor were deleted after their retention"


class EventStreamNotFoundError(ServiceError):
    """The client has no event stream with this id."""

    reason = Reason.EVENT_STREAM_NOT_FOUND
    default_message = "there is no such event stream"


class TooManyEventStreamsError(ServiceError):
    """The client has as many event streams as one may have."""

    reason = Reason.TOO_MANY_EVENT_STREAMS
    default_message = "the client has too many event streams"


class WebhookNotFoundError(ServiceError):
    """No webhook has this id."""

    reason = Reason.WEBHOOK_NOT_FOUND
    default_message = "there is no such webhook"


class WebhookChangedError(ServiceError):
    """The webhook was changed since the caller read it."""

    reason = Reason.WEBHOOK_CHANGED
    default_message = "the webhook has another etag; read it again and repeat the change"


class ShuttingDownError(ServiceError):
    """The server is shutting down."""

    reason = Reason.SHUTTING_DOWN
    default_message = "the server is shutting down; reconnect"


class StoreUnavailableError(ServiceError):
    """The database can't be reached or did not answer in time."""

    reason = Reason.STORE_UNAVAILABLE
    default_message = "the database is unavailable"


class ReplicaStaleError(ServiceError):
    """This node's replica of the revocation log is too far behind to answer."""

    reason = Reason.REPLICA_STALE
    default_message = "this node's replica of the revocation log is too far behind"


class KeysStaleError(ServiceError):
    """A refresh or session token may have a newer key than the keys this node knows."""

    reason = Reason.KEYS_STALE
    default_message = "this node does not know the key of the token yet"


class ClientNotFoundError(ServiceError):
    """No client is registered under this id, or the client was deleted."""

    reason = Reason.CLIENT_NOT_FOUND
    default_message = "there is no such client"


class ClientExistsError(ServiceError):
    """The client id is taken, possibly by a deleted client."""

    reason = Reason.CLIENT_EXISTS
    default_message = (
        "the client_id is taken; an id is never given to another client, even after its deletion"
    )


class ClientChangedError(ServiceError):
    """The client was changed since the caller read it."""

    reason = Reason.CLIENT_CHANGED
    default_message = "the client has another etag; read it again and repeat the change"


class PoliciesChangedError(ServiceError):
    """The overrides of the policies were changed after the caller had read them. The metadata has their `revision`."""

    reason = Reason.POLICIES_CHANGED
    default_message = "the policies were changed meanwhile; read them again"


class ClientDisabledError(ServiceError):
    """The client is disabled or deleted, so it gets no tokens."""

    reason = Reason.CLIENT_DISABLED
    default_message = "the client is disabled or deleted"


class ForeignKeysUnavailableError(ServiceError):
    """The keys of a client or of another issuer can't be fetched, so a token of theirs can't be verified now."""

    reason = Reason.FOREIGN_KEYS_UNAVAILABLE
    default_message = "the keys that verify this token are not available at the moment"


class ClientDocumentUnavailableError(ServiceError):
    """The metadata document of a client that is not registered can't be fetched, or it describes no usable client."""

    reason = Reason.CLIENT_DOCUMENT_UNAVAILABLE
    default_message = (
        "the client metadata document at the client_id can't be fetched or used at the moment; "
        "the log of the service says why"
    )


class UnreachableError(ServiceError):
    """The client library got no response from any node. The message is from gRPC. The call may have taken effect."""

    reason = Reason.UNREACHABLE
    default_message = "the token service can't be reached"


class OverloadedError(ServiceError):
    """The server is at its limit of calls or streams."""

    reason = Reason.OVERLOADED
    default_message = "the server is at its limit"


class RateLimitedError(ServiceError):
    """A rate of the policy is reached. Nothing was done; `retry_after` tells when one more call is admitted."""

    reason = Reason.RATE_LIMITED
    default_message = "a rate of the policy is reached"


class GrantInvalidError(ServiceError):
    """The grant is invalid, e.g. an assertion that is not accepted (RFC 6749, section 5.2)."""

    reason = Reason.GRANT_INVALID
    default_message = "the grant is invalid"


class GrantTypeNotAllowedError(ServiceError):
    """The client is not registered for this grant type."""

    reason = Reason.GRANT_TYPE_NOT_ALLOWED
    default_message = "the client is not registered for this grant type"


class GrantTypeUnknownError(ServiceError):
    """The token service has no such grant type."""

    reason = Reason.GRANT_TYPE_UNKNOWN
    default_message = "the token service has no such grant type"


class AccessDeniedError(ServiceError):
    """The user or the system that authenticates users refused the login."""

    reason = Reason.ACCESS_DENIED
    default_message = "the login was refused"


class LoginRequiredError(ServiceError):
    """The request allows no interaction, or demands a newer authentication than there is.

    See OpenID Connect Core 1.0, section 3.1.2.6.
    """

    reason = Reason.LOGIN_REQUIRED
    default_message = "the user has to log in"


class PushedRequestRequiredError(ServiceError):
    """The client gets authorization codes only for requests that it has pushed (RFC 9126)."""

    reason = Reason.PUSHED_REQUEST_REQUIRED
    default_message = "the client must push its authorization requests to /par (RFC 9126)"


class ConsentRequiredError(ServiceError):
    """The client is not a first-party client, and this service has no page that asks users for consent."""

    reason = Reason.CONSENT_REQUIRED
    default_message = "the client needs the consent of the user, for which this service has no page"


class ResponseTypeUnknownError(ServiceError):
    """The authorization endpoint serves the response type `code` only."""

    reason = Reason.RESPONSE_TYPE_UNKNOWN
    default_message = "response_type must be code"


class AuthenticationInsufficientError(ServiceError):
    """The user was authenticated by a weaker method, or longer ago, than the request demands (RFC 9470, section 4).

    The metadata has the `max_age` in seconds that the next authentication may have, if the age is the cause.
    """

    reason = Reason.AUTHENTICATION_INSUFFICIENT
    default_message = "the authentication does not meet the requested acr_values"


class AuthorizationPendingError(ServiceError):
    """No user has approved or denied the device yet (RFC 8628, section 3.5)."""

    reason = Reason.AUTHORIZATION_PENDING
    default_message = "the user has not decided about the device yet; poll again after the interval"


class SlowDownError(ServiceError):
    """The client polls too often (RFC 8628, section 3.5). The metadata has the new `interval` in seconds."""

    reason = Reason.SLOW_DOWN
    default_message = "the client polls too often"


class DeviceCodeExpiredError(ServiceError):
    """The device code has expired (RFC 8628, section 3.5)."""

    reason = Reason.DEVICE_CODE_EXPIRED
    default_message = "the device code has expired; start the authorization of the device again"


class SubjectTokenInvalidError(ServiceError):
    """A subject token or an actor token of a token exchange is not accepted (RFC 8693, section 2.2.2).

    The metadata has its `parameter` and the `cause`.
    """

    reason = Reason.SUBJECT_TOKEN_INVALID
    default_message = "the subject token is not accepted"


class UpstreamUnavailableError(ServiceError):
    """The identity provider of an upstream can't be reached, or does not answer as its standard says."""

    reason = Reason.UPSTREAM_UNAVAILABLE
    default_message = "the identity provider is not available at the moment; the log of the service says why"


class DeadlineExceededError(ServiceError):
    """The deadline of the caller passed before the response was ready."""

    reason = Reason.DEADLINE_EXCEEDED
    default_message = "the deadline passed"


class SigningUnavailableError(ServiceError):
    """No key can sign at the moment."""

    reason = Reason.SIGNING_UNAVAILABLE
    default_message = "no key can sign at the moment"


class InternalError(ServiceError):
    """A defect of the token service. The log has the details under `metadata["error_id"]`."""

    reason = Reason.INTERNAL
    default_message = "internal error"
