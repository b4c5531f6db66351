"""The state of one revocation stream."""

from __future__ import annotations

from token_service.core.access.caller import Caller
from token_service.errors import ServiceError
from token_service.rpc.server.reception import Context


class Stream:
    """One reader. It has every entry up to `position`."""

    __slots__ = (
        "aborted",
        "behind",
        "caller",
        "context",
        "end",
        "keys",
        "position",
        "requested",
        "resets",
        "sending_since",
        "until",
    )

    def __init__(self, context: Context, caller: Caller, until: float) -> None:
        self.context = context
        self.caller = caller
        self.position = 0
        self.behind = True
        """Whether the reader has not yet received `caught_up`."""
        self.resets = -1
        """Number of the replica's reset that `position` belongs to; -1: the reader needs a snapshot."""
        self.keys: bytes | None = None
        """The last key set sent."""
        self.requested = 0
        """Highest sequence whose confirmation was requested."""
        self.until = until
        self.sending_since: float | None = None
        self.end: ServiceError | None = None
        """Why the stream ends or has ended."""
        self.aborted = False
        """Whether the stream was ended with a message unread."""
