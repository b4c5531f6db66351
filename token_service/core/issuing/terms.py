"""The terms on which clients get tokens."""

from __future__ import annotations

from dataclasses import dataclass

from token_service.core.access.rates import Rates
from token_service.core.clients.admission import ClientAdmission


@dataclass(frozen=True, slots=True)
class Terms:
    """What IssueToken and RefreshToken ask about a client: its registration and its rates."""

    clients: ClientAdmission
    rates: Rates
