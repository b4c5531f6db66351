"""Polls over HTTP (RFC 8936, section 2)."""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from token_service.core.event_streams.polling import MAX_ACKNOWLEDGED, MAX_EVENTS, Poll, Polls
from token_service.errors import InvalidRequestError
from token_service.web.oauth.client_authentication import HttpCallers
from token_service.web.oauth.errors import NO_STORE
from token_service.web.ssf.requests import json_of, receiver

_MAX_TOKEN_ID: Final = 64
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_OTHER_CODE: Final = "other"
"""Stands for an error code of another form, which the log must not repeat."""


class PollEndpoint:
    """The endpoint that receivers poll."""

    def __init__(self, callers: HttpCallers, polls: Polls) -> None:
        self._callers = callers
        self._polls = polls

    async def answer(self, request: Request) -> Response:
        """Answer a poll. Raises `ServiceError`."""
        caller = await receiver(self._callers, request)
        poll = _poll(await json_of(request))
        found = await self._polls.poll(caller, request.path_params["stream_id"], poll)
        body: dict[str, Any] = {"sets": dict(found.tokens)}
        if found.more_available:
            body["moreAvailable"] = True
        return JSONResponse(body, headers=NO_STORE)


def _poll(body: dict[str, Any]) -> Poll:
    """Read a poll. Raises `InvalidRequestError`."""
    most = body.get("maxEvents", MAX_EVENTS)
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        raise InvalidRequestError.of("maxEvents", "must be a whole number from 0")
    immediately = body.get("returnImmediately", False)
    if not isinstance(immediately, bool):
        raise InvalidRequestError.of("returnImmediately", "must be true or false")
    acknowledged = body.get("ack", [])
    if not isinstance(acknowledged, list) or not all(map(_is_token_id, acknowledged)):
        raise InvalidRequestError.of("ack", "must be a list of jti")
    errors = body.get("setErrs", {})
    if not isinstance(errors, dict) or not all(map(_is_token_id, errors)):
        raise InvalidRequestError.of("setErrs", "must be an object with a jti as the name of each member")
    if len(acknowledged) + len(errors) > MAX_ACKNOWLEDGED:
        raise InvalidRequestError.of("ack", f"has with setErrs more than {MAX_ACKNOWLEDGED} items")
    return Poll(
        max_events=most,
        return_immediately=immediately,
        acknowledged=acknowledged,
        refused={token_id: _code(error) for token_id, error in errors.items()},
    )


def _is_token_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TOKEN_ID


def _code(error: Any) -> str:
    """Return the error code of an event. Raises `InvalidRequestError`."""
    code = error.get("err") if isinstance(error, dict) else None
    if not isinstance(code, str):
        raise InvalidRequestError.of("setErrs", "must have objects with the member err")
    return code if _CODE.fullmatch(code) else _OTHER_CODE
