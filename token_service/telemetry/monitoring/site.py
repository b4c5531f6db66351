"""What differs between places that use the same rules."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The settings of one service, as its rules need them. Times are in seconds."""

    job: str = "token-service"
    """The name of the scrape job."""
    availability: float = 0.999
    """The share of requests that are to succeed in 30 days."""
    speed: float = 0.99
    """The share of requests that are to be quick in 30 days."""
    freshness_bound: float = 10.0
    """The age at which an unconfirmed revocation is too old: the bound of the validators and some time for a report."""
    replica_max_age: float = 10.0
    """REPLICA_MAX_AGE of the nodes."""
    janitor_interval: float = 60.0
    """JANITOR_INTERVAL of the nodes."""
    queue_limit: int = 10_000
    """Statements at which a node refuses further calls."""
    docs: str = "docs"
    """The place of the documentation, in front of the names of runbooks."""
    targets: tuple[str, ...] = ()
    """The addresses of the pages of metrics; empty: those of the example."""
    pace: float = 1.0
    """The factor by which all windows and holding times are shorter, for tests."""

    @property
    def scope(self) -> str:
        """The matcher that selects the service."""
        return f'job="{self.job}"'
