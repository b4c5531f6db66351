"""Polls one transmitter of security events (RFC 8936, section 2)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from token_service.core.security_events.polling import (
    MAX_POLLED,
    PollAnswer,
    PollRequest,
    TransmitterUnreachableError,
)
from token_service.fetching.failure import FetchError
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.tokens import strict_json

POLL_TIMEOUT: Final = 10.0
"""Seconds for one poll, with its connection."""
_MAX_ID: Final = 1024
"""Characters of the `jti` of a token, as the transmitter names it in its answer."""


class TransmitterPolls:
    """Sends the polls of one transmitter. The file of the bearer token is read at each poll."""

    def __init__(
        self,
        endpoint: str,
        fetcher: HttpFetcher,
        *,
        token_file: str = "",
        private: bool = False,
        ca_file: str = "",
        timeout: float = POLL_TIMEOUT,
    ) -> None:
        """`private`: whether the transmitter may have a private address. `ca_file`: authorities instead of the system's."""
        self._endpoint = endpoint
        self._fetcher = fetcher
        self._rules = FetchRules(
            allow_private=private,
            authorities=Path(ca_file) if ca_file else None,
            bearer_token=Path(token_file) if token_file else None,
        )
        self._timeout = timeout

    async def poll(self, request: PollRequest) -> PollAnswer:
        """See `Poll`."""
        document: dict[str, Any] = {"maxEvents": MAX_POLLED, "returnImmediately": True}
        if request.acknowledged:
            document["ack"] = list(request.acknowledged)
        if request.refused:
            document["setErrs"] = {
                token_id: {"err": error.code.value, "description": error.problem}
                for token_id, error in request.refused.items()
            }
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._fetcher.post_json(
                    self._endpoint, strict_json.encode(document), self._rules
                )
        except FetchError as error:
            raise TransmitterUnreachableError(str(error)) from None
        except TimeoutError:
            raise TransmitterUnreachableError(f"no answer in {self._timeout:g} seconds") from None
        if answer.status != 200:
            raise TransmitterUnreachableError(f"the poll was answered with status {answer.status}")
        return _parse(answer.body)


def _parse(body: bytes) -> PollAnswer:
    try:
        answer = strict_json.decode_object(body)
    except ValueError:
        raise TransmitterUnreachableError("the answer to the poll is no JSON object") from None
    tokens, more = answer.get("sets", {}), answer.get("moreAvailable", False)
    if not isinstance(tokens, dict) or not isinstance(more, bool):
        raise TransmitterUnreachableError("the answer to the poll has no object sets")
    # A token that is no text is refused like any other that is malformed, so that the transmitter learns of it.
    return PollAnswer(
        {
            token_id: token if isinstance(token, str) else ""
            for token_id, token in tokens.items()
            if len(token_id) <= _MAX_ID
        },
        more,
    )
