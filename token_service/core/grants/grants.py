"""The grants of a node."""

from __future__ import annotations

from dataclasses import dataclass

from token_service.core.grants.assertion import AssertionGrant
from token_service.core.grants.client_credentials import ClientCredentials
from token_service.core.grants.code import CodeGrant
from token_service.core.grants.device import DeviceGrant
from token_service.core.grants.exchange import TokenExchange
from token_service.core.grants.refresh import RefreshGrant


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """One use case for each grant type of the token endpoint."""

    client_credentials: ClientCredentials
    code: CodeGrant
    device: DeviceGrant
    refresh: RefreshGrant
    assertion: AssertionGrant
    exchange: TokenExchange
