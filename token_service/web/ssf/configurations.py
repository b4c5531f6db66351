"""The configuration of a stream as JSON (SSF 1.0, section 8.1.1)."""

from __future__ import annotations

from typing import Any, Final

from token_service.core.event_streams.changes import MAX_EVENT_TYPES, StreamSettings, delivered
from token_service.core.event_streams.event_types import SUPPORTED
from token_service.core.event_streams.stream import MIN_VERIFICATION_INTERVAL, DeliveryMethod, EventStream
from token_service.errors import InvalidRequestError
from token_service.tokens.secret import Secret
from token_service.web.ssf.requests import text_in

POLL: Final = "/ssf/poll"


class Configurations:
    """Writes and reads configurations. The header of pushes is read, and never written."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._base = issuer.rstrip("/")

    def document(self, stream: EventStream) -> dict[str, Any]:
        """Return the whole configuration."""
        return {
            **self._supplied(stream),
            "delivery": {"method": stream.method.value, "endpoint_url": self._endpoint(stream)},
            "events_requested": list(stream.events_requested),
            **({"description": stream.description} if stream.description else {}),
        }

    def created(self, body: dict[str, Any]) -> StreamSettings:
        """Return the settings of a new stream. Raises `InvalidRequestError`."""
        return self._settings(body, None)

    def updated(self, body: dict[str, Any], stream: EventStream) -> StreamSettings:
        """Return the settings that a PATCH makes: members that were not sent stay. Raises `InvalidRequestError`."""
        self._require_supplied(body, stream)
        current: dict[str, Any] = {
            "delivery": {"method": stream.method.value, "endpoint_url": self._endpoint(stream)},
            "events_requested": list(stream.events_requested),
            "description": stream.description,
        }
        return self._settings({**current, **body}, stream)

    def replaced(self, body: dict[str, Any], stream: EventStream) -> StreamSettings:
        """Return the settings that a PUT makes: members that were not sent are deleted. Raises `InvalidRequestError`."""
        self._require_supplied(body, stream)
        return self._settings(body, stream)

    def _supplied(self, stream: EventStream) -> dict[str, Any]:
        """Return the members that this service supplies."""
        return {
            "stream_id": stream.stream_id,
            "iss": self._issuer,
            "aud": stream.client_id,
            "events_supported": list(SUPPORTED),
            "events_delivered": delivered(stream),
            "min_verification_interval": MIN_VERIFICATION_INTERVAL,
        }

    def _endpoint(self, stream: EventStream) -> str:
        return stream.endpoint_url or f"{self._base}{POLL}/{stream.stream_id}"

    def _require_supplied(self, body: dict[str, Any], stream: EventStream) -> None:
        for name, value in self._supplied(stream).items():
            if name in body and body[name] != value and body[name] != [value]:
                raise InvalidRequestError.of(name, "is supplied by this service and can't be changed")

    def _settings(self, body: dict[str, Any], stream: EventStream | None) -> StreamSettings:
        delivery = body.get("delivery")
        if delivery is None:
            delivery = {"method": DeliveryMethod.POLL.value}
        if not isinstance(delivery, dict):
            raise InvalidRequestError.of("delivery", "must be an object")
        method = delivery.get("method")
        if method not in tuple(DeliveryMethod):
            raise InvalidRequestError.of("delivery.method", f"must be one of {', '.join(DeliveryMethod)}")
        url = text_in(delivery, "endpoint_url")
        is_push = method == DeliveryMethod.PUSH
        if not is_push and stream is not None and url not in {"", f"{self._base}{POLL}/{stream.stream_id}"}:
            raise InvalidRequestError.of("delivery.endpoint_url", "is supplied by this service for polls")
        header = text_in(delivery, "authorization_header")
        try:
            authorization = Secret(header.encode()) if header else None
        except UnicodeEncodeError:
            raise InvalidRequestError.of("delivery.authorization_header", "is no text") from None
        return StreamSettings(
            method=DeliveryMethod(method),
            endpoint_url=url if is_push else "",
            authorization=authorization,
            # It is never sent elsewhere than to the URL that it came with.
            keeps_authorization="authorization_header" not in delivery
            and stream is not None
            and is_push
            and stream.endpoint_url == url,
            events_requested=_texts(body, "events_requested"),
            description=text_in(body, "description"),
        )


def _texts(body: dict[str, Any], name: str) -> tuple[str, ...]:
    values = body.get(name)
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise InvalidRequestError.of(name, "must be a list of texts")
    if len(values) > MAX_EVENT_TYPES:
        raise InvalidRequestError.of(name, f"has more than {MAX_EVENT_TYPES} items")
    return tuple(dict.fromkeys(values))
