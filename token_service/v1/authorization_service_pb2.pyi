import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from token_service.v1 import token_pb2 as _token_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import Any as _Any, ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateAuthorizationGrantRequest(_message.Message):
    __slots__ = ("client_id", "redirect_uri", "code_challenge", "subject", "audience", "scopes", "nonce", "auth_context", "custom_claims", "identity_claims")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    REDIRECT_URI_FIELD_NUMBER: _ClassVar[int]
    CODE_CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    AUTH_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_CLAIMS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_CLAIMS_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    redirect_uri: str
    code_challenge: str
    subject: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    nonce: str
    auth_context: _token_pb2.AuthContext
    custom_claims: _struct_pb2.Struct
    identity_claims: _struct_pb2.Struct
    def __init__(self, client_id: _Optional[str] = ..., redirect_uri: _Optional[str] = ..., code_challenge: _Optional[str] = ..., subject: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[str]] = ..., nonce: _Optional[str] = ..., auth_context: _Optional[_Union[_token_pb2.AuthContext, _Mapping[str, _Any]]] = ..., custom_claims: _Optional[_Union[_struct_pb2.Struct, _Mapping[str, _Any]]] = ..., identity_claims: _Optional[_Union[_struct_pb2.Struct, _Mapping[str, _Any]]] = ...) -> None: ...

class CreateAuthorizationGrantResponse(_message.Message):
    __slots__ = ("code", "expire_time", "issuer")
    CODE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    code: str
    expire_time: _timestamp_pb2.Timestamp
    issuer: str
    def __init__(self, code: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., issuer: _Optional[str] = ...) -> None: ...

class GetLoginRequestRequest(_message.Message):
    __slots__ = ("login_challenge",)
    LOGIN_CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    login_challenge: str
    def __init__(self, login_challenge: _Optional[str] = ...) -> None: ...

class GetLoginRequestResponse(_message.Message):
    __slots__ = ("client_id", "client_name", "scopes", "audience", "prompts", "max_age", "acr_values", "login_hint", "expire_time", "subject")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    ACR_VALUES_FIELD_NUMBER: _ClassVar[int]
    LOGIN_HINT_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    client_name: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    audience: _containers.RepeatedScalarFieldContainer[str]
    prompts: _containers.RepeatedScalarFieldContainer[str]
    max_age: _duration_pb2.Duration
    acr_values: _containers.RepeatedScalarFieldContainer[str]
    login_hint: str
    expire_time: _timestamp_pb2.Timestamp
    subject: str
    def __init__(self, client_id: _Optional[str] = ..., client_name: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., audience: _Optional[_Iterable[str]] = ..., prompts: _Optional[_Iterable[str]] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., acr_values: _Optional[_Iterable[str]] = ..., login_hint: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., subject: _Optional[str] = ...) -> None: ...

class AcceptLoginRequestRequest(_message.Message):
    __slots__ = ("login_challenge", "subject", "auth_context", "custom_claims", "identity_claims")
    LOGIN_CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    AUTH_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_CLAIMS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_CLAIMS_FIELD_NUMBER: _ClassVar[int]
    login_challenge: str
    subject: str
    auth_context: _token_pb2.AuthContext
    custom_claims: _struct_pb2.Struct
    identity_claims: _struct_pb2.Struct
    def __init__(self, login_challenge: _Optional[str] = ..., subject: _Optional[str] = ..., auth_context: _Optional[_Union[_token_pb2.AuthContext, _Mapping[str, _Any]]] = ..., custom_claims: _Optional[_Union[_struct_pb2.Struct, _Mapping[str, _Any]]] = ..., identity_claims: _Optional[_Union[_struct_pb2.Struct, _Mapping[str, _Any]]] = ...) -> None: ...

class AcceptLoginRequestResponse(_message.Message):
    __slots__ = ("redirect_to",)
    REDIRECT_TO_FIELD_NUMBER: _ClassVar[int]
    redirect_to: str
    def __init__(self, redirect_to: _Optional[str] = ...) -> None: ...

class RejectLoginRequestRequest(_message.Message):
    __slots__ = ("login_challenge", "reason")
    LOGIN_CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    login_challenge: str
    reason: str
    def __init__(self, login_challenge: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RejectLoginRequestResponse(_message.Message):
    __slots__ = ("redirect_to",)
    REDIRECT_TO_FIELD_NUMBER: _ClassVar[int]
    redirect_to: str
    def __init__(self, redirect_to: _Optional[str] = ...) -> None: ...
