"""What receivers configure, and the audit events of their changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from token_service.core.event_streams.event_types import SUPPORTED
from token_service.core.event_streams.stream import DeliveryMethod, EventStream
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.limits import Checks
from token_service.tokens.secret import Secret

MAX_EVENT_TYPES: Final = 64
MAX_EVENT_TYPE: Final = 256
MAX_DESCRIPTION: Final = 256
MAX_HEADER: Final = 4096
MAX_URL: Final = 2048
_HEADER: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a configuration that the receiver supplies."""

    method: DeliveryMethod = DeliveryMethod.POLL
    endpoint_url: str = ""
    """Of a push."""
    authorization: Secret | None = None
    keeps_authorization: bool = False
    """Whether the header that is stored stays."""
    events_requested: tuple[str, ...] = ()
    description: str = ""

    def check(self, problem_of_url: Callable[[str], str]) -> None:
        """Raise `InvalidRequestError` for settings that break a rule."""
        checks = Checks()
        checks.texts("events_requested", self.events_requested, MAX_EVENT_TYPES, MAX_EVENT_TYPE)
        checks.text("description", self.description, MAX_DESCRIPTION)
        if self.method is DeliveryMethod.PUSH:
            checks.text("delivery.endpoint_url", self.endpoint_url, MAX_URL, required=True)
            if self.endpoint_url and (problem := problem_of_url(self.endpoint_url)):
                checks.add("delivery.endpoint_url", problem)
            if self.authorization is not None and not _is_header(self.authorization):
                checks.add(
                    "delivery.authorization_header",
                    f"is not printable ASCII of at most {MAX_HEADER} characters",
                )
        elif self.authorization is not None:
            checks.add("delivery.authorization_header", "is only for a push")
        checks.done()


def delivered(stream: EventStream) -> list[str]:
    """Return the event types that a stream delivers."""
    return [each for each in SUPPORTED if each in stream.events_requested]


def note_change(
    actor: Actor, action: Action, stream: EventStream, before: EventStream | None = None, *, cause: str = ""
) -> AuditEvent:
    """Return the audit event of a change. `cause`: why this service made it by itself."""
    return AuditEvent(
        action=action,
        actor=actor,
        target=Target("event_stream", stream.stream_id, client_id=stream.client_id),
        fields={
            "method": stream.method.value,
            "status": stream.status.value,
            "events": [each.rpartition("/")[2] for each in delivered(stream)],
            **({"status_before": before.status.value} if before is not None else {}),
            **({"cause": cause} if cause else {}),
        },
    )


def _is_header(header: Secret) -> bool:
    try:
        text = header.reveal().decode("ascii")
    except ValueError:
        return False
    return len(text) <= MAX_HEADER and _HEADER.fullmatch(text) is not None
