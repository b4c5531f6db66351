"""What the processes of a campaign are told, and how large it is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc

ISSUER = "https://tokens.test"
AUDIENCE = "api"
GRACE = 120.0
"""Seconds a superseded refresh token still gets its successor: longer than any fault, so a retry always may."""
LEEWAY = 0.0
"""What a validator adds to the expiry of a token."""


@dataclass(frozen=True)
class Size:
    """How much of everything there is."""

    validators: int
    cells: int
    """Sessions under way at a time."""
    window: int
    """Tokens each validator looks at all the time."""


SIZES = {
    "small": Size(validators=8, cells=8, window=90),
    "full": Size(validators=20, cells=10, window=120),
}


@dataclass(frozen=True)
class Plan:
    """For a process of validators, of consumers or of load."""

    name: str
    directory: str
    """Where the history is."""
    targets: list[str]
    bound: float
    """S, in seconds."""
    kind: str = "async"
    count: int = 1
    window: int = 60
    seed: int = 0
    defect: str = ""

    def text(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Plan:
        """From the command line."""
        return cls(**json.loads(text))

    @property
    def root(self) -> Path:
        """Where the history is."""
        return Path(self.directory)

    @property
    def tokens(self) -> Path:
        """The file in which the load tells validators of tokens: a number and a token on each line."""
        return self.root / "tokens"

    def credentials(self) -> grpc.ChannelCredentials:
        """The roots with which the nodes are known."""
        return grpc.ssl_channel_credentials((self.root / "authority.pem").read_bytes())
