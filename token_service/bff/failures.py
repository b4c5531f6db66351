"""The failures of browser sessions. No message contains a token, a code or a session id."""

from __future__ import annotations

from token_service.errors import TokenServiceError


class ProviderUnavailableError(TokenServiceError):
    """The provider did not answer, or its answer can't be used. `retry_after`: seconds until a retry may succeed.

    This is never a reason to end a session.
    """

    def __init__(self, message: str, *, retry_after: float = 5.0, answer_lost: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.answer_lost = answer_lost
        """Whether the connection failed, so that the provider may have done what it was asked for."""


class GrantRefusedError(TokenServiceError):
    """The provider answered `invalid_grant` (RFC 6749, section 5.2): the code or the refresh token is over."""


class SessionEndedError(TokenServiceError):
    """The session is over: logged out, expired, or ended by the provider. The user has to log in again."""

    def __init__(self, message: str = "the session is over; log in again") -> None:
        super().__init__(message)


class LoginFailedError(TokenServiceError):
    """A login can't be completed. The message tells the user what to do."""
