import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from token_service.v1 import session_service_pb2 as _session_service_pb2
from token_service.v1 import token_pb2 as _token_pb2
from token_service.v1 import token_service_pb2 as _token_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import Any as _Any, ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PersonalAccessToken(_message.Message):
    __slots__ = ("personal_access_token_id", "name", "subject", "client_id", "audience", "scopes", "state", "create_time", "expire_time", "last_use_time", "revoke_time", "revoke_reason", "revoked_through")
    PERSONAL_ACCESS_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_USE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVOKE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVOKE_REASON_FIELD_NUMBER: _ClassVar[int]
    REVOKED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    personal_access_token_id: str
    name: str
    subject: str
    client_id: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    state: _session_service_pb2.SessionState
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    last_use_time: _timestamp_pb2.Timestamp
    revoke_time: _timestamp_pb2.Timestamp
    revoke_reason: _token_service_pb2.RevocationReason
    revoked_through: _session_service_pb2.RevokedThrough
    def __init__(self, personal_access_token_id: _Optional[str] = ..., name: _Optional[str] = ..., subject: _Optional[str] = ..., client_id: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[str]] = ..., state: _Optional[_Union[_session_service_pb2.SessionState, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., last_use_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., revoke_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., revoke_reason: _Optional[_Union[_token_service_pb2.RevocationReason, str]] = ..., revoked_through: _Optional[_Union[_session_service_pb2.RevokedThrough, str]] = ...) -> None: ...

class CreatePersonalAccessTokenRequest(_message.Message):
    __slots__ = ("subject", "client_id", "name", "audience", "scopes", "ttl", "request_id", "client_context")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    subject: str
    client_id: str
    name: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    ttl: _duration_pb2.Duration
    request_id: str
    client_context: _token_pb2.ClientContext
    def __init__(self, subject: _Optional[str] = ..., client_id: _Optional[str] = ..., name: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[str]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., request_id: _Optional[str] = ..., client_context: _Optional[_Union[_token_pb2.ClientContext, _Mapping[str, _Any]]] = ...) -> None: ...

class CreatePersonalAccessTokenResponse(_message.Message):
    __slots__ = ("token", "personal_access_token")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    PERSONAL_ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    personal_access_token: PersonalAccessToken
    def __init__(self, token: _Optional[str] = ..., personal_access_token: _Optional[_Union[PersonalAccessToken, _Mapping[str, _Any]]] = ...) -> None: ...

class ListPersonalAccessTokensRequest(_message.Message):
    __slots__ = ("subject", "client_id", "active_only", "page_size", "page_token")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_ONLY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    subject: str
    client_id: str
    active_only: bool
    page_size: int
    page_token: str
    def __init__(self, subject: _Optional[str] = ..., client_id: _Optional[str] = ..., active_only: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPersonalAccessTokensResponse(_message.Message):
    __slots__ = ("personal_access_tokens", "next_page_token")
    PERSONAL_ACCESS_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    personal_access_tokens: _containers.RepeatedCompositeFieldContainer[PersonalAccessToken]
    next_page_token: str
    def __init__(self, personal_access_tokens: _Optional[_Iterable[_Union[PersonalAccessToken, _Mapping[str, _Any]]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RevokePersonalAccessTokenRequest(_message.Message):
    __slots__ = ("personal_access_token_id", "reason", "comment")
    PERSONAL_ACCESS_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    personal_access_token_id: str
    reason: _token_service_pb2.RevocationReason
    comment: str
    def __init__(self, personal_access_token_id: _Optional[str] = ..., reason: _Optional[_Union[_token_service_pb2.RevocationReason, str]] = ..., comment: _Optional[str] = ...) -> None: ...

class RevokePersonalAccessTokenResponse(_message.Message):
    __slots__ = ("cursor",)
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    def __init__(self, cursor: _Optional[str] = ...) -> None: ...
