"""Failures that no code expected: one log line with an id, and an error that shows the id alone."""

from __future__ import annotations

import logging
import secrets

from token_service.errors import InternalError


def unexpected(error: BaseException, what: str, logger: logging.Logger) -> InternalError:
    """Log an exception with its traceback and return the error to answer with. `what`: the method or route."""
    error_id = secrets.token_hex(8)
    logger.error("%s failed, error_id %s", what, error_id, exc_info=error)
    return InternalError(metadata={"error_id": error_id})
