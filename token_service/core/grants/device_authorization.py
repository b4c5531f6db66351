"""Device authorization (RFC 8628, section 3.1): a device of a client asks for a code that its user can type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.access.rates import Rates, network_of
from token_service.core.clients.client import DEVICE_CODE
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.device_codes import (
    DEVICE_CODE_TTL,
    POLL_INTERVAL,
    DeviceCodes,
    shown_user_code,
    user_code_digest,
)
from token_service.core.grants.device_requests import DeviceRequest, DeviceRequests
from token_service.core.grants.registration import Registration
from token_service.core.policies.rates import Bucket, Operation, Rate
from token_service.errors import GrantTypeUnknownError, OverloadedError

MAX_REQUESTS_OF_CLIENT: Final = Rate(10_000, int(DEVICE_CODE_TTL))
MAX_REQUESTS_OF_ADDRESS: Final = Rate(60, int(DEVICE_CODE_TTL))
"""Requests in the lifetime of a device code, so at most this many are pending. A rate of the policy replaces each."""
_ATTEMPTS: Final = 3
"""User codes that are tried. With 10^5 pending ones, a code is taken with a probability of 4 * 10^-6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAuthorization:
    """The response to a device (RFC 8628, section 3.2)."""

    device_code: str
    user_code: str
    expire_time: float
    interval: float


class DeviceAuthorizations:
    """Begins the authorization of devices."""

    def __init__(
        self,
        registration: Registration,
        codes: DeviceCodes,
        requests: DeviceRequests,
        rates: Rates,
        available: Callable[[], bool],
    ) -> None:
        """`available` tells whether users can log in to approve devices."""
        self._registration = registration
        self._codes = codes
        self._requests = requests
        self._rates = rates
        self._available = available

    async def begin(self, caller: Caller, request: GrantRequest, now: float) -> DeviceAuthorization:
        """Return the codes for a device of a client.

        Raises `CallerUnauthenticatedError`, `GrantTypeNotAllowedError`, `GrantTypeUnknownError` without an upstream,
        `PolicyViolationError`, `InvalidRequestError`, `RateLimitedError`, `StoreUnavailableError`.
        """
        client = self._registration.admit(caller, DEVICE_CODE)
        if not self._available():
            raise GrantTypeUnknownError("no upstream is configured at which a user could approve a device")
        self._registration.require_scopes(client, request.scopes)
        audience = self._registration.audience(client, request.audience)
        await self._count(client.client_id, request.origin.ip_address)
        await self._rates.take_of_caller(caller, Operation.AUTHORIZE_DEVICE)
        for _ in range(_ATTEMPTS):
            user_code = self._codes.new_user_code()
            code, text = self._codes.new(client.client_id, user_code, now)
            wanted = DeviceRequest(
                user_code_digest=user_code_digest(user_code),
                code_digest=code.digest,
                client_id=client.client_id,
                scopes=tuple(dict.fromkeys(request.scopes)),
                audience=audience,
                expire_time=code.expire_time,
            )
            if await self._requests.add(wanted):
                return DeviceAuthorization(
                    device_code=text,
                    user_code=shown_user_code(user_code),
                    expire_time=code.expire_time,
                    interval=POLL_INTERVAL,
                )
        raise OverloadedError("too many devices wait for their users; try again", retry_after=POLL_INTERVAL)

    async def _count(self, client_id: str, address: str) -> None:
        operation, rates = Operation.AUTHORIZE_DEVICE, self._rates.policies.of(client_id).rates
        for bucket, value, default in (
            (Bucket.ADDRESS, network_of(address), MAX_REQUESTS_OF_ADDRESS),
            (Bucket.CLIENT, client_id, MAX_REQUESTS_OF_CLIENT),
        ):
            rate = rates.get((operation, bucket), default)
            await self._rates.take_always(operation, bucket, rate, value)
