"""EventService: streams the events of the service, and administers the webhooks that are sent them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from token_service.rpc.server.service import StreamMethod, UnaryMethod
from token_service.rpc.services.webhooks import WebhookMethods
from token_service.rpc.stream.event_readers import EventReaderServer
from token_service.v1 import event_service_pb2 as pb


class EventService:
    """The methods of EventService."""

    name: Final = pb.DESCRIPTOR.services_by_name["EventService"].full_name
    is_serving: Final = True

    def __init__(self, streams: EventReaderServer, webhooks: WebhookMethods) -> None:
        self._streams = streams
        self._webhooks = webhooks

    def methods(self) -> Sequence[UnaryMethod | StreamMethod]:
        """Return the methods (see `Service`)."""
        stream = StreamMethod("StreamEvents", pb.StreamEventsRequest, self._streams)
        return (stream, *self._webhooks.methods())
