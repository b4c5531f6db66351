import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from token_service.v1 import token_pb2 as _token_pb2
from token_service.v1 import token_service_pb2 as _token_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import Any as _Any, ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_STATE_UNSPECIFIED: _ClassVar[SessionState]
    SESSION_STATE_ACTIVE: _ClassVar[SessionState]
    SESSION_STATE_EXPIRED: _ClassVar[SessionState]
    SESSION_STATE_REVOKED: _ClassVar[SessionState]

class RevokedThrough(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REVOKED_THROUGH_UNSPECIFIED: _ClassVar[RevokedThrough]
    REVOKED_THROUGH_SESSION: _ClassVar[RevokedThrough]
    REVOKED_THROUGH_SUBJECT: _ClassVar[RevokedThrough]
    REVOKED_THROUGH_CLIENT: _ClassVar[RevokedThrough]
    REVOKED_THROUGH_EVERYTHING: _ClassVar[RevokedThrough]

class CountAccuracy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COUNT_ACCURACY_UNSPECIFIED: _ClassVar[CountAccuracy]
    COUNT_ACCURACY_EXACT: _ClassVar[CountAccuracy]
    COUNT_ACCURACY_AT_LEAST: _ClassVar[CountAccuracy]
    COUNT_ACCURACY_ESTIMATE: _ClassVar[CountAccuracy]
SESSION_STATE_UNSPECIFIED: SessionState
SESSION_STATE_ACTIVE: SessionState
SESSION_STATE_EXPIRED: SessionState
SESSION_STATE_REVOKED: SessionState
REVOKED_THROUGH_UNSPECIFIED: RevokedThrough
REVOKED_THROUGH_SESSION: RevokedThrough
REVOKED_THROUGH_SUBJECT: RevokedThrough
REVOKED_THROUGH_CLIENT: RevokedThrough
REVOKED_THROUGH_EVERYTHING: RevokedThrough
COUNT_ACCURACY_UNSPECIFIED: CountAccuracy
COUNT_ACCURACY_EXACT: CountAccuracy
COUNT_ACCURACY_AT_LEAST: CountAccuracy
COUNT_ACCURACY_ESTIMATE: CountAccuracy

class Session(_message.Message):
    __slots__ = ("session_id", "subject", "client_id", "device_id", "scopes", "audience", "auth_context", "confirmation", "state", "generation", "create_time", "last_use_time", "idle_expire_time", "absolute_expire_time", "revoke_time", "revoke_reason", "revoked_through", "created_from", "last_used_from", "personal_access_token_name", "upstream")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    AUTH_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_USE_TIME_FIELD_NUMBER: _ClassVar[int]
    IDLE_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ABSOLUTE_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVOKE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVOKE_REASON_FIELD_NUMBER: _ClassVar[int]
    REVOKED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    CREATED_FROM_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_FROM_FIELD_NUMBER: _ClassVar[int]
    PERSONAL_ACCESS_TOKEN_NAME_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    subject: str
    client_id: str
    device_id: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    audience: _containers.RepeatedScalarFieldContainer[str]
    auth_context: _token_pb2.AuthContext
    confirmation: _token_pb2.Confirmation
    state: SessionState
    generation: int
    create_time: _timestamp_pb2.Timestamp
    last_use_time: _timestamp_pb2.Timestamp
    idle_expire_time: _timestamp_pb2.Timestamp
    absolute_expire_time: _timestamp_pb2.Timestamp
    revoke_time: _timestamp_pb2.Timestamp
    revoke_reason: _token_service_pb2.RevocationReason
    revoked_through: RevokedThrough
    created_from: _token_pb2.ClientContext
    last_used_from: _token_pb2.ClientContext
    personal_access_token_name: str
    upstream: str
    def __init__(self, session_id: _Optional[str] = ..., subject: _Optional[str] = ..., client_id: _Optional[str] = ..., device_id: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., audience: _Optional[_Iterable[str]] = ..., auth_context: _Optional[_Union[_token_pb2.AuthContext, _Mapping[str, _Any]]] = ..., confirmation: _Optional[_Union[_token_pb2.Confirmation, _Mapping[str, _Any]]] = ..., state: _Optional[_Union[SessionState, str]] = ..., generation: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., last_use_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., idle_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., absolute_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., revoke_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., revoke_reason: _Optional[_Union[_token_service_pb2.RevocationReason, str]] = ..., revoked_through: _Optional[_Union[RevokedThrough, str]] = ..., created_from: _Optional[_Union[_token_pb2.ClientContext, _Mapping[str, _Any]]] = ..., last_used_from: _Optional[_Union[_token_pb2.ClientContext, _Mapping[str, _Any]]] = ..., personal_access_token_name: _Optional[str] = ..., upstream: _Optional[str] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping[str, _Any]]] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("subject", "client_id", "device_id", "active_only", "page_size", "page_token")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_ONLY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    subject: str
    client_id: str
    device_id: str
    active_only: bool
    page_size: int
    page_token: str
    def __init__(self, subject: _Optional[str] = ..., client_id: _Optional[str] = ..., device_id: _Optional[str] = ..., active_only: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions", "next_page_token")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    next_page_token: str
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping[str, _Any]]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ExtendSessionRequest(_message.Message):
    __slots__ = ("session_id", "idle_timeout", "client_id", "client_context")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    idle_timeout: _duration_pb2.Duration
    client_id: str
    client_context: _token_pb2.ClientContext
    def __init__(self, session_id: _Optional[str] = ..., idle_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., client_id: _Optional[str] = ..., client_context: _Optional[_Union[_token_pb2.ClientContext, _Mapping[str, _Any]]] = ...) -> None: ...

class ExtendSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping[str, _Any]]] = ...) -> None: ...

class UpdateSessionRequest(_message.Message):
    __slots__ = ("session_id", "client_id", "update_mask", "scopes", "custom_claims", "auth_context")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_CLAIMS_FIELD_NUMBER: _ClassVar[int]
    AUTH_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    client_id: str
    update_mask: _field_mask_pb2.FieldMask
    scopes: _containers.RepeatedScalarFieldContainer[str]
    custom_claims: _struct_pb2.Struct
    auth_context: _token_pb2.AuthContext
    def __init__(self, session_id: _Optional[str] = ..., client_id: _Optional[str] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping[str, _Any]]] = ..., scopes: _Optional[_Iterable[str]] = ..., custom_claims: _Optional[_Union[_struct_pb2.Struct, _Mapping[str, _Any]]] = ..., auth_context: _Optional[_Union[_token_pb2.AuthContext, _Mapping[str, _Any]]] = ...) -> None: ...

class UpdateSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping[str, _Any]]] = ...) -> None: ...

class SessionSelection(_message.Message):
    __slots__ = ("subject", "client_id", "device_id", "upstream", "created_after", "created_before", "last_used_before")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    CREATED_AFTER_FIELD_NUMBER: _ClassVar[int]
    CREATED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    subject: str
    client_id: str
    device_id: str
    upstream: str
    created_after: _timestamp_pb2.Timestamp
    created_before: _timestamp_pb2.Timestamp
    last_used_before: _timestamp_pb2.Timestamp
    def __init__(self, subject: _Optional[str] = ..., client_id: _Optional[str] = ..., device_id: _Optional[str] = ..., upstream: _Optional[str] = ..., created_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., created_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., last_used_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ...) -> None: ...

class ClientSessions(_message.Message):
    __slots__ = ("client_id", "sessions")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    sessions: int
    def __init__(self, client_id: _Optional[str] = ..., sessions: _Optional[int] = ...) -> None: ...

class CountSessionsRequest(_message.Message):
    __slots__ = ("filter",)
    FILTER_FIELD_NUMBER: _ClassVar[int]
    filter: SessionSelection
    def __init__(self, filter: _Optional[_Union[SessionSelection, _Mapping[str, _Any]]] = ...) -> None: ...

class CountSessionsResponse(_message.Message):
    __slots__ = ("sessions", "accuracy", "subjects", "clients_count", "clients", "oldest_create_time")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_COUNT_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    sessions: int
    accuracy: CountAccuracy
    subjects: int
    clients_count: int
    clients: _containers.RepeatedCompositeFieldContainer[ClientSessions]
    oldest_create_time: _timestamp_pb2.Timestamp
    def __init__(self, sessions: _Optional[int] = ..., accuracy: _Optional[_Union[CountAccuracy, str]] = ..., subjects: _Optional[int] = ..., clients_count: _Optional[int] = ..., clients: _Optional[_Iterable[_Union[ClientSessions, _Mapping[str, _Any]]]] = ..., oldest_create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ...) -> None: ...

class RevokeSessionsRequest(_message.Message):
    __slots__ = ("filter", "reason", "comment", "dry_run", "max_sessions", "page_token")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    filter: SessionSelection
    reason: _token_service_pb2.RevocationReason
    comment: str
    dry_run: bool
    max_sessions: int
    page_token: str
    def __init__(self, filter: _Optional[_Union[SessionSelection, _Mapping[str, _Any]]] = ..., reason: _Optional[_Union[_token_service_pb2.RevocationReason, str]] = ..., comment: _Optional[str] = ..., dry_run: _Optional[bool] = ..., max_sessions: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class RevokeSessionsResponse(_message.Message):
    __slots__ = ("sessions", "accuracy", "next_page_token", "cursor", "advice")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    sessions: int
    accuracy: CountAccuracy
    next_page_token: str
    cursor: str
    advice: str
    def __init__(self, sessions: _Optional[int] = ..., accuracy: _Optional[_Union[CountAccuracy, str]] = ..., next_page_token: _Optional[str] = ..., cursor: _Optional[str] = ..., advice: _Optional[str] = ...) -> None: ...
