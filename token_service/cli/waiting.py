"""Revocations that wait until every connected validator has confirmed them, with a live count."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from token_service.cli.progress import Progress

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service
    from token_service.v1.token_service_pb2 import RevokeTokenRequest, RevokeTokenResponse

_FIRST_WAIT: Final = 0.25
_LONGEST_WAIT: Final = 5.0
_NO_TOKEN: Final = "-"
"""No token. Revoking it revokes nothing and succeeds (RFC 7009, section 2.2), so a call with it only waits."""


def revoke_and_wait(
    service: Service, request: RevokeTokenRequest, timeout: float, *, quiet: bool
) -> RevokeTokenResponse:
    """Revoke, and wait until all validators have confirmed, the time is over or the user presses Ctrl-C.

    Returns the cursor of the revocation and the last counts. Raises `ServiceError`.
    """
    from token_service.v1 import token_service_pb2 as pb

    end = time.monotonic() + timeout
    request.wait.applied_by_all = True
    with Progress("validators that have confirmed", quiet=quiet) as progress:
        pause = _FIRST_WAIT
        response = _call(service, request, min(pause, timeout))
        cursor = response.cursor
        while True:
            progress.show(
                response.subscribers_applied,
                response.subscribers_connected,
                f"{response.subscribers_silent} silent" if response.subscribers_silent else "",
            )
            left = end - time.monotonic()
            if response.subscribers_applied >= response.subscribers_connected or left <= 0:
                break
            pause = min(pause * 2, _LONGEST_WAIT)
            # Not the same request: it would also revoke tokens issued since the first call.
            again = pb.RevokeTokenRequest(token=_NO_TOKEN, wait=request.wait)
            try:
                response = _call(service, again, min(pause, left))
            except KeyboardInterrupt:  # ends the wait only: the revocation is in force
                break
    result = pb.RevokeTokenResponse()
    result.CopyFrom(response)
    result.cursor = cursor
    return result


def _call(service: Service, request: RevokeTokenRequest, wait: float) -> RevokeTokenResponse:
    request.wait.timeout.FromMilliseconds(max(1, round(wait * 1000)))
    return service.call(service.tokens.RevokeToken, request, timeout=service.connection.timeout + wait)
