"""Outcomes of calls to the token service, for `status` and the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from token_service.client._internal.following.state import FollowerState, Standing
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

_STREAM: Final = "StreamRevocations"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes of the calls so far, all of one moment."""

    streaming: bool = False
    """Whether the revocation stream is open and has delivered a message."""
    last_error: ServiceError | None = None
    failed_at: float = float("-inf")
    """The elapsed time of the last failure."""
    failing: Mapping[str, ServiceError] = field(default_factory=dict)
    """The methods whose last call failed."""


@dataclass(frozen=True, slots=True)
class View:
    """Outcomes of the calls and the state of the replica, as they were at one moment."""

    outcomes: Outcomes
    standing: Standing


class Contact:
    """Record of the outcomes of calls to the token service. Any thread may report.

    Each report replaces `outcomes` in one assignment, so a reader never sees a part of an event.
    """

    def __init__(
        self, issuer: ServiceIssuer, elapsed: Callable[[], float], follower_state: FollowerState
    ) -> None:
        self.outcomes = Outcomes()
        self._reporting = threading.Lock()
        self.refusal = ""
        """The reason why the TLS relay made no connection at its last attempt; set by the relay."""
        self._issuer = issuer
        self._target = issuer.target or "the given channel"
        self._follower_state = follower_state
        self._answered = False
        self._elapsed = elapsed
        self._logging = threading.Lock()
        self._logged: dict[str, float] = {}

    def answered(self, method: str) -> None:
        """Record that the token service answered a call of `method`, or sent a message on its stream."""
        self._answered = True
        with self._reporting:
            before = self.outcomes
            failing = {name: error for name, error in before.failing.items() if name != method}
            self.outcomes = replace(before, streaming=before.streaming or method == _STREAM, failing=failing)
        if before.failing and not failing:
            self._log(logging.INFO, "again", f"the token service at {self._target} answers again")
        mismatch = self._mismatch(self._follower_state.standing)
        if mismatch is not None:
            self.warn("issuer", mismatch.message)

    def failed(self, method: str, error: ServiceError) -> None:
        """Record a failed call of `method`. A stream that ended in order, to be reopened, does not count."""
        if isinstance(error, StreamEndedError | ShuttingDownError | InvalidRequestError):
            return
        with self._reporting:
            before = self.outcomes
            self.outcomes = Outcomes(
                streaming=before.streaming and method != _STREAM,
                last_error=error,
                failed_at=self._elapsed(),
                failing={**before.failing, method: error},
            )
        reason = error.reason.value
        if isinstance(error, UnreachableError):
            what = f"the token service at {self._target} can't be reached"
        else:
            what = f"{method} of the token service at {self._target} failed"
        self.warn(reason, f"{what} ({reason}): {self._explained(error)}")

    def stream_ended(self) -> None:
        """Record that the stream is closed. `failed` has recorded it already if the stream failed."""
        with self._reporting:
            self.outcomes = replace(self.outcomes, streaming=False)

    def view(self) -> View:
        """Read the outcomes and the state of the replica together. Waits for no other thread."""
        while True:
            standing = self._follower_state.standing
            outcomes = self.outcomes
            if self._follower_state.standing is standing:  # each event makes a new object
                return View(outcomes, standing)

    def _mismatch(self, standing: Standing) -> ConfigurationError | None:
        """Return an error if the token service has another issuer than the configured one."""
        seen, configured = standing.issuer_seen, self._issuer.issuer
        if seen is None or seen == configured:
            return None
        return ConfigurationError(
            f"the token service at {self._target} has the issuer {seen[:512]!r} and ServiceIssuer.issuer is "
            f"{configured!r}, so the validator uses none of its keys; set ServiceIssuer.issuer to the same text"
        )

    def cause(self, view: View) -> TokenServiceError | None:
        """Return the reason why freshness or keys were missing at that moment, or None without a known problem.

        The last StreamRevocations and ConfirmRevocations calls decide.
        """
        mismatch = self._mismatch(view.standing)
        failing = view.outcomes.failing
        error = failing.get(_STREAM) or failing.get("ConfirmRevocations")
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
            advice = self.refusal or advice
        return f"{error.message} ({advice})" if advice else error.message

    def refused(self, reason: str) -> None:
        """Record that the TLS relay made no connection, or made one (an empty reason)."""
        self.refusal = reason

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
