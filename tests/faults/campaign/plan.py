"""The parameters of a campaign's processes, and the sizes of campaigns."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc

ISSUER = "https://tokens.test"
AUDIENCE = "api"
GRACE = 120.0
"""Seconds in which a superseded refresh token still gets its successor. Longer than any fault, so a retry succeeds."""
LEEWAY = 0.0
"""Seconds that a validator adds to the expiry of a token."""


@dataclass(frozen=True)
class Size:
    """The size of a campaign."""

    validators: int
    cells: int
    """Concurrent sessions."""
    window: int
    """Tokens that each validator checks continuously."""


SIZES = {
    "small": Size(validators=8, cells=8, window=90),
    "full": Size(validators=20, cells=10, window=120),
}


@dataclass(frozen=True)
class Plan:
    """The parameters of a process of validators, consumers or load."""

    name: str
    directory: str
    """Directory of the history."""
    targets: list[str]
    bound: float
    """S, in seconds."""
    kind: str = "async"
    count: int = 1
    window: int = 60
    seed: int = 0
    defect: str = ""

    def text(self) -> str:
        """Return the plan as text for the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Read a plan from the command line."""
        return cls(**json.loads(text))

    @property
    def root(self) -> Path:
        """Directory of the history."""
        return Path(self.directory)

    @property
    def tokens(self) -> Path:
        """The file through which the load gives validators tokens: a number and a token on each line."""
        return self.root / "tokens"

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the roots that verify the nodes."""
        return grpc.ssl_channel_credentials((self.root / "authority.pem").read_bytes())
