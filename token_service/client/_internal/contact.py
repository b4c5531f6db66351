"""Outcomes of calls to the token service, for `status` and the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from token_service.client._internal.following.state import FollowerState
from token_service.client.config import ServiceIssuer
from token_service.errors import (
    ConfigurationError,
    InvalidRequestError,
    ServiceError,
    ShuttingDownError,
    StreamEndedError,
    TokenServiceError,
    UnreachableError,
)

WARN_INTERVAL: Final = 60.0
"""Seconds between two warnings about the same subject."""

_ADVICE: Final = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        "the authority of the service's certificate is not among the roots of ServiceIssuer.credentials",
    ),
    (
        "Hostname Verification Check failed",
        "the service's certificate is for another name; set ServiceIssuer.server_name to a name in the certificate",
    ),
    ("WRONG_VERSION_NUMBER", "the service does not use TLS on this port"),
)
_CLOSED: Final = ("Socket closed", "Handshake read failed")
_ADVICE_CLOSED: Final = (
    "the service closed the connection before it sent a response; if it uses TLS or requires a client certificate, "
    "set ServiceIssuer.credentials"
)

logger = logging.getLogger(__name__)


class Contact:
    """Record of the outcomes of calls to the token service. Any thread may report."""

    def __init__(
        self, issuer: ServiceIssuer, elapsed: Callable[[], float], follower_state: FollowerState
    ) -> None:
        self.streaming = False
        """Whether the revocation stream is open and has delivered a message."""
        self.last_error: ServiceError | None = None
        self.failed_at = float("-inf")
        self._failing: dict[str, ServiceError] = {}
        self._issuer = issuer
        self._target = issuer.target or "the given channel"
        self._follower_state = follower_state
        self._answered = False
        self._elapsed = elapsed
        self._logging = threading.Lock()
        self._logged: dict[str, float] = {}

    @property
    def issuer_seen(self) -> str | None:
        """Issuer in the last key set from the token service."""
        return self._follower_state.issuer_seen

    def answered(self, method: str) -> None:
        """Record that the token service answered a call of `method`, or sent a message on its stream."""
        self._answered = True
        if self._failing.pop(method, None) is not None and not self._failing:
            self._log(logging.INFO, "again", f"the token service at {self._target} answers again")
        mismatch = self.mismatch()
        if mismatch is not None:
            self.warn("issuer", mismatch.message)

    def failed(self, method: str, error: ServiceError) -> None:
        """Record a failed call of `method`. A stream that ended in order, to be reopened, does not count."""
        if isinstance(error, StreamEndedError | ShuttingDownError | InvalidRequestError):
            return
        self.last_error = error
        self.failed_at = self._elapsed()
        self._failing[method] = error
        reason = error.reason.value
        if isinstance(error, UnreachableError):
            what = f"the token service at {self._target} can't be reached"
        else:
            what = f"{method} of the token service at {self._target} failed"
        self.warn(reason, f"{what} ({reason}): {self._explained(error)}")

    def mismatch(self) -> ConfigurationError | None:
        """Return an error if the token service has another issuer than the configured one."""
        seen, configured = self.issuer_seen, self._issuer.issuer
        if seen is None or seen == configured:
            return None
        return ConfigurationError(
            f"the token service at {self._target} has the issuer {seen[:512]!r} and ServiceIssuer.issuer is "
            f"{configured!r}, so the validator uses none of its keys; set ServiceIssuer.issuer to the same text"
        )

    def cause(self) -> TokenServiceError | None:
        """Return the reason why freshness or keys are missing, or None without a known problem.

        The last StreamRevocations and ConfirmRevocations calls decide.
        """
        mismatch = self.mismatch()
        error = self._failing.get("StreamRevocations") or self._failing.get("ConfirmRevocations")
        if mismatch is not None or error is None:
            return mismatch
        if isinstance(error, UnreachableError):
            return UnreachableError(self._explained(error), metadata=error.metadata)
        return error.with_traceback(None)

    def _explained(self, error: ServiceError) -> str:
        """Return the message of the error, with advice for known causes."""
        advice = ""
        if isinstance(error, UnreachableError):
            advice = next((advice for words, advice in _ADVICE if words in error.message), "")
            if not self._answered and any(words in error.message for words in _CLOSED):
                advice = _ADVICE_CLOSED
        return f"{error.message} ({advice})" if advice else error.message

    def warn(self, about: str, message: str) -> None:
        """Log a warning, at most one per minute about the same subject."""
        self._log(logging.WARNING, about, message)

    def _log(self, level: int, about: str, message: str) -> None:
        now = self._elapsed()
        with self._logging:
            if now - self._logged.get(about, float("-inf")) < WARN_INTERVAL:
                return
            self._logged[about] = now
        logger.log(level, "%s", message)
