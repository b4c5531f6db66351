import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from token_service.v1 import audit_service_pb2 as _audit_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import Any as _Any, ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_TYPE_UNSPECIFIED: _ClassVar[EventType]
    EVENT_TYPE_TOKEN_ISSUED: _ClassVar[EventType]
    EVENT_TYPE_TOKEN_REFRESHED: _ClassVar[EventType]
    EVENT_TYPE_TOKEN_EXCHANGED: _ClassVar[EventType]
    EVENT_TYPE_REVOKED: _ClassVar[EventType]
    EVENT_TYPE_REFRESH_TOKEN_REUSED: _ClassVar[EventType]
    EVENT_TYPE_REFRESH_TOKEN_RACED: _ClassVar[EventType]
    EVENT_TYPE_RISK_DETECTED: _ClassVar[EventType]
    EVENT_TYPE_SECURITY_EVENT_RECEIVED: _ClassVar[EventType]
    EVENT_TYPE_CLIENT_CREATED: _ClassVar[EventType]
    EVENT_TYPE_CLIENT_UPDATED: _ClassVar[EventType]
    EVENT_TYPE_CLIENT_SECRET_ROTATED: _ClassVar[EventType]
    EVENT_TYPE_CLIENT_DISABLED: _ClassVar[EventType]
    EVENT_TYPE_CLIENT_ENABLED: _ClassVar[EventType]
    EVENT_TYPE_CLIENT_DELETED: _ClassVar[EventType]
    EVENT_TYPE_CLIENT_AUTHENTICATION_FAILED: _ClassVar[EventType]
    EVENT_TYPE_SESSION_UPDATED: _ClassVar[EventType]
    EVENT_TYPE_SESSION_EXPIRED: _ClassVar[EventType]
    EVENT_TYPE_POLICIES_CHANGED: _ClassVar[EventType]
    EVENT_TYPE_LOG_RENEWED: _ClassVar[EventType]
    EVENT_TYPE_SIGNING_KEY_PREPARED: _ClassVar[EventType]
    EVENT_TYPE_SIGNING_KEY_ACTIVATED: _ClassVar[EventType]
    EVENT_TYPE_SIGNING_KEY_RETIRED: _ClassVar[EventType]
    EVENT_TYPE_SIGNING_KEY_FORGOTTEN: _ClassVar[EventType]
    EVENT_TYPE_SIGNING_KEY_CERTIFIED: _ClassVar[EventType]
    EVENT_TYPE_MAC_KEY_PREPARED: _ClassVar[EventType]
    EVENT_TYPE_KEYS_REWRAPPED: _ClassVar[EventType]
    EVENT_TYPE_WEBHOOK_CREATED: _ClassVar[EventType]
    EVENT_TYPE_WEBHOOK_UPDATED: _ClassVar[EventType]
    EVENT_TYPE_WEBHOOK_SECRET_ROTATED: _ClassVar[EventType]
    EVENT_TYPE_WEBHOOK_DELETED: _ClassVar[EventType]
    EVENT_TYPE_EVENT_STREAM_CREATED: _ClassVar[EventType]
    EVENT_TYPE_EVENT_STREAM_UPDATED: _ClassVar[EventType]
    EVENT_TYPE_EVENT_STREAM_DELETED: _ClassVar[EventType]
    EVENT_TYPE_SUBJECT_EXPORTED: _ClassVar[EventType]
    EVENT_TYPE_SUBJECT_ERASED: _ClassVar[EventType]
    EVENT_TYPE_PERSONAL_DATA_KEY_CREATED: _ClassVar[EventType]
    EVENT_TYPE_PERSONAL_DATA_ENCRYPTION_CHANGED: _ClassVar[EventType]
    EVENT_TYPE_REFUSALS_REPORTED: _ClassVar[EventType]
    EVENT_TYPE_PERMISSION_DENIED: _ClassVar[EventType]
    EVENT_TYPE_QUOTA_EXCEEDED: _ClassVar[EventType]
    EVENT_TYPE_AUDIT_ERASED: _ClassVar[EventType]
    EVENT_TYPE_AUDIT_EVENTS_LOST: _ClassVar[EventType]
EVENT_TYPE_UNSPECIFIED: EventType
EVENT_TYPE_TOKEN_ISSUED: EventType
EVENT_TYPE_TOKEN_REFRESHED: EventType
EVENT_TYPE_TOKEN_EXCHANGED: EventType
EVENT_TYPE_REVOKED: EventType
EVENT_TYPE_REFRESH_TOKEN_REUSED: EventType
EVENT_TYPE_REFRESH_TOKEN_RACED: EventType
EVENT_TYPE_RISK_DETECTED: EventType
EVENT_TYPE_SECURITY_EVENT_RECEIVED: EventType
EVENT_TYPE_CLIENT_CREATED: EventType
EVENT_TYPE_CLIENT_UPDATED: EventType
EVENT_TYPE_CLIENT_SECRET_ROTATED: EventType
EVENT_TYPE_CLIENT_DISABLED: EventType
EVENT_TYPE_CLIENT_ENABLED: EventType
EVENT_TYPE_CLIENT_DELETED: EventType
EVENT_TYPE_CLIENT_AUTHENTICATION_FAILED: EventType
EVENT_TYPE_SESSION_UPDATED: EventType
EVENT_TYPE_SESSION_EXPIRED: EventType
EVENT_TYPE_POLICIES_CHANGED: EventType
EVENT_TYPE_LOG_RENEWED: EventType
EVENT_TYPE_SIGNING_KEY_PREPARED: EventType
EVENT_TYPE_SIGNING_KEY_ACTIVATED: EventType
EVENT_TYPE_SIGNING_KEY_RETIRED: EventType
EVENT_TYPE_SIGNING_KEY_FORGOTTEN: EventType
EVENT_TYPE_SIGNING_KEY_CERTIFIED: EventType
EVENT_TYPE_MAC_KEY_PREPARED: EventType
EVENT_TYPE_KEYS_REWRAPPED: EventType
EVENT_TYPE_WEBHOOK_CREATED: EventType
EVENT_TYPE_WEBHOOK_UPDATED: EventType
EVENT_TYPE_WEBHOOK_SECRET_ROTATED: EventType
EVENT_TYPE_WEBHOOK_DELETED: EventType
EVENT_TYPE_EVENT_STREAM_CREATED: EventType
EVENT_TYPE_EVENT_STREAM_UPDATED: EventType
EVENT_TYPE_EVENT_STREAM_DELETED: EventType
EVENT_TYPE_SUBJECT_EXPORTED: EventType
EVENT_TYPE_SUBJECT_ERASED: EventType
EVENT_TYPE_PERSONAL_DATA_KEY_CREATED: EventType
EVENT_TYPE_PERSONAL_DATA_ENCRYPTION_CHANGED: EventType
EVENT_TYPE_REFUSALS_REPORTED: EventType
EVENT_TYPE_PERMISSION_DENIED: EventType
EVENT_TYPE_QUOTA_EXCEEDED: EventType
EVENT_TYPE_AUDIT_ERASED: EventType
EVENT_TYPE_AUDIT_EVENTS_LOST: EventType

class StreamEventsRequest(_message.Message):
    __slots__ = ("cursor", "from_earliest", "types", "categories", "subject", "session_id", "client_id")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    FROM_EARLIEST_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    from_earliest: bool
    types: _containers.RepeatedScalarFieldContainer[EventType]
    categories: _containers.RepeatedScalarFieldContainer[str]
    subject: str
    session_id: str
    client_id: str
    def __init__(self, cursor: _Optional[str] = ..., from_earliest: _Optional[bool] = ..., types: _Optional[_Iterable[_Union[EventType, str]]] = ..., categories: _Optional[_Iterable[str]] = ..., subject: _Optional[str] = ..., session_id: _Optional[str] = ..., client_id: _Optional[str] = ...) -> None: ...

class StreamEventsResponse(_message.Message):
    __slots__ = ("events", "cursor", "caught_up", "reset")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    CAUGHT_UP_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    cursor: str
    caught_up: bool
    reset: bool
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping[str, _Any]]]] = ..., cursor: _Optional[str] = ..., caught_up: _Optional[bool] = ..., reset: _Optional[bool] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("id", "type", "audit_event", "revocation", "risk")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    AUDIT_EVENT_FIELD_NUMBER: _ClassVar[int]
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    RISK_FIELD_NUMBER: _ClassVar[int]
    id: str
    type: EventType
    audit_event: _audit_service_pb2.AuditEvent
    revocation: RevocationDetail
    risk: RiskDetail
    def __init__(self, id: _Optional[str] = ..., type: _Optional[_Union[EventType, str]] = ..., audit_event: _Optional[_Union[_audit_service_pb2.AuditEvent, _Mapping[str, _Any]]] = ..., revocation: _Optional[_Union[RevocationDetail, _Mapping[str, _Any]]] = ..., risk: _Optional[_Union[RiskDetail, _Mapping[str, _Any]]] = ...) -> None: ...

class RevocationDetail(_message.Message):
    __slots__ = ("revocation_cursor", "cause")
    REVOCATION_CURSOR_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    revocation_cursor: str
    cause: str
    def __init__(self, revocation_cursor: _Optional[str] = ..., cause: _Optional[str] = ...) -> None: ...

class RiskDetail(_message.Message):
    __slots__ = ("score", "action", "dry_run", "evidence")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    score: int
    action: str
    dry_run: bool
    evidence: _containers.RepeatedCompositeFieldContainer[RiskEvidence]
    def __init__(self, score: _Optional[int] = ..., action: _Optional[str] = ..., dry_run: _Optional[bool] = ..., evidence: _Optional[_Iterable[_Union[RiskEvidence, _Mapping[str, _Any]]]] = ...) -> None: ...

class RiskEvidence(_message.Message):
    __slots__ = ("signal", "weight", "detail")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    signal: str
    weight: int
    detail: str
    def __init__(self, signal: _Optional[str] = ..., weight: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class Webhook(_message.Message):
    __slots__ = ("webhook_id", "url", "description", "types", "categories", "client_id", "disabled", "disable_reason", "create_time", "update_time", "etag", "previous_secret_expire_time", "delivery")
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    DISABLE_REASON_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_SECRET_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    webhook_id: str
    url: str
    description: str
    types: _containers.RepeatedScalarFieldContainer[EventType]
    categories: _containers.RepeatedScalarFieldContainer[str]
    client_id: str
    disabled: bool
    disable_reason: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    etag: str
    previous_secret_expire_time: _timestamp_pb2.Timestamp
    delivery: WebhookDelivery
    def __init__(self, webhook_id: _Optional[str] = ..., url: _Optional[str] = ..., description: _Optional[str] = ..., types: _Optional[_Iterable[_Union[EventType, str]]] = ..., categories: _Optional[_Iterable[str]] = ..., client_id: _Optional[str] = ..., disabled: _Optional[bool] = ..., disable_reason: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., etag: _Optional[str] = ..., previous_secret_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., delivery: _Optional[_Union[WebhookDelivery, _Mapping[str, _Any]]] = ...) -> None: ...

class WebhookDelivery(_message.Message):
    __slots__ = ("cursor", "events_behind", "attempts", "next_attempt_time", "failing_since", "last_error", "last_success_time", "dead_letters")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    EVENTS_BEHIND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_TIME_FIELD_NUMBER: _ClassVar[int]
    FAILING_SINCE_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    LAST_SUCCESS_TIME_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    events_behind: int
    attempts: int
    next_attempt_time: _timestamp_pb2.Timestamp
    failing_since: _timestamp_pb2.Timestamp
    last_error: str
    last_success_time: _timestamp_pb2.Timestamp
    dead_letters: int
    def __init__(self, cursor: _Optional[str] = ..., events_behind: _Optional[int] = ..., attempts: _Optional[int] = ..., next_attempt_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., failing_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., last_error: _Optional[str] = ..., last_success_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., dead_letters: _Optional[int] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("event_id", "type", "attempts", "last_error", "create_time", "redelivery_requested")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REDELIVERY_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    type: EventType
    attempts: int
    last_error: str
    create_time: _timestamp_pb2.Timestamp
    redelivery_requested: bool
    def __init__(self, event_id: _Optional[str] = ..., type: _Optional[_Union[EventType, str]] = ..., attempts: _Optional[int] = ..., last_error: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., redelivery_requested: _Optional[bool] = ...) -> None: ...

class CreateWebhookRequest(_message.Message):
    __slots__ = ("webhook",)
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    webhook: Webhook
    def __init__(self, webhook: _Optional[_Union[Webhook, _Mapping[str, _Any]]] = ...) -> None: ...

class CreateWebhookResponse(_message.Message):
    __slots__ = ("webhook", "secret")
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    webhook: Webhook
    secret: str
    def __init__(self, webhook: _Optional[_Union[Webhook, _Mapping[str, _Any]]] = ..., secret: _Optional[str] = ...) -> None: ...

class GetWebhookRequest(_message.Message):
    __slots__ = ("webhook_id",)
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    webhook_id: str
    def __init__(self, webhook_id: _Optional[str] = ...) -> None: ...

class GetWebhookResponse(_message.Message):
    __slots__ = ("webhook",)
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    webhook: Webhook
    def __init__(self, webhook: _Optional[_Union[Webhook, _Mapping[str, _Any]]] = ...) -> None: ...

class ListWebhooksRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListWebhooksResponse(_message.Message):
    __slots__ = ("webhooks",)
    WEBHOOKS_FIELD_NUMBER: _ClassVar[int]
    webhooks: _containers.RepeatedCompositeFieldContainer[Webhook]
    def __init__(self, webhooks: _Optional[_Iterable[_Union[Webhook, _Mapping[str, _Any]]]] = ...) -> None: ...

class UpdateWebhookRequest(_message.Message):
    __slots__ = ("webhook", "update_mask")
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    webhook: Webhook
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, webhook: _Optional[_Union[Webhook, _Mapping[str, _Any]]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping[str, _Any]]] = ...) -> None: ...

class UpdateWebhookResponse(_message.Message):
    __slots__ = ("webhook",)
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    webhook: Webhook
    def __init__(self, webhook: _Optional[_Union[Webhook, _Mapping[str, _Any]]] = ...) -> None: ...

class RotateWebhookSecretRequest(_message.Message):
    __slots__ = ("webhook_id", "overlap", "etag")
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    webhook_id: str
    overlap: _duration_pb2.Duration
    etag: str
    def __init__(self, webhook_id: _Optional[str] = ..., overlap: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., etag: _Optional[str] = ...) -> None: ...

class RotateWebhookSecretResponse(_message.Message):
    __slots__ = ("webhook", "secret")
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    webhook: Webhook
    secret: str
    def __init__(self, webhook: _Optional[_Union[Webhook, _Mapping[str, _Any]]] = ..., secret: _Optional[str] = ...) -> None: ...

class DeleteWebhookRequest(_message.Message):
    __slots__ = ("webhook_id", "etag")
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    webhook_id: str
    etag: str
    def __init__(self, webhook_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteWebhookResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("webhook_id", "page_size", "page_token")
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    webhook_id: str
    page_size: int
    page_token: str
    def __init__(self, webhook_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("dead_letters", "next_page_token")
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dead_letters: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    next_page_token: str
    def __init__(self, dead_letters: _Optional[_Iterable[_Union[DeadLetter, _Mapping[str, _Any]]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RedeliverDeadLettersRequest(_message.Message):
    __slots__ = ("webhook_id", "event_ids")
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_IDS_FIELD_NUMBER: _ClassVar[int]
    webhook_id: str
    event_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, webhook_id: _Optional[str] = ..., event_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class RedeliverDeadLettersResponse(_message.Message):
    __slots__ = ("requested",)
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    requested: int
    def __init__(self, requested: _Optional[int] = ...) -> None: ...

class ReplayWebhookRequest(_message.Message):
    __slots__ = ("webhook_id", "cursor", "time")
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    webhook_id: str
    cursor: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, webhook_id: _Optional[str] = ..., cursor: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ...) -> None: ...

class ReplayWebhookResponse(_message.Message):
    __slots__ = ("cursor",)
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    def __init__(self, cursor: _Optional[str] = ...) -> None: ...

class TestWebhookRequest(_message.Message):
    __slots__ = ("webhook_id",)
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    webhook_id: str
    def __init__(self, webhook_id: _Optional[str] = ...) -> None: ...

class TestWebhookResponse(_message.Message):
    __slots__ = ("delivered", "status", "error")
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    delivered: bool
    status: int
    error: str
    def __init__(self, delivered: _Optional[bool] = ..., status: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...
