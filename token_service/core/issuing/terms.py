"""The terms on which clients get tokens."""

from __future__ import annotations

from dataclasses import dataclass

from token_service.core.access.rates import Rates
from token_service.core.clients.admission import ClientAdmission
from token_service.core.issuing.risk_control import RiskControl


@dataclass(frozen=True, slots=True)
class Terms:
    """What IssueToken and RefreshToken ask about a client and its sessions: its registration, its rates, and the risk."""

    clients: ClientAdmission
    rates: Rates
    risk: RiskControl
