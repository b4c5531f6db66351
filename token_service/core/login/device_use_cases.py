"""The use cases of devices at one node."""

from __future__ import annotations

from dataclasses import dataclass

from token_service.core.grants.device import DeviceGrant
from token_service.core.grants.device_authorization import DeviceAuthorizations
from token_service.core.login.devices import DeviceLogins


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUseCases:
    """What the edges call. The token endpoint calls `grant`."""

    authorizations: DeviceAuthorizations
    grant: DeviceGrant
    logins: DeviceLogins
