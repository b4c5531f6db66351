import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import Any as _Any, ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TokenType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOKEN_TYPE_UNSPECIFIED: _ClassVar[TokenType]
    TOKEN_TYPE_ACCESS: _ClassVar[TokenType]
    TOKEN_TYPE_REFRESH: _ClassVar[TokenType]
    TOKEN_TYPE_ID: _ClassVar[TokenType]
    TOKEN_TYPE_SESSION: _ClassVar[TokenType]
    TOKEN_TYPE_TRANSACTION: _ClassVar[TokenType]
    TOKEN_TYPE_PERSONAL_ACCESS: _ClassVar[TokenType]
TOKEN_TYPE_UNSPECIFIED: TokenType
TOKEN_TYPE_ACCESS: TokenType
TOKEN_TYPE_REFRESH: TokenType
TOKEN_TYPE_ID: TokenType
TOKEN_TYPE_SESSION: TokenType
TOKEN_TYPE_TRANSACTION: TokenType
TOKEN_TYPE_PERSONAL_ACCESS: TokenType

class AuthContext(_message.Message):
    __slots__ = ("acr", "amr", "auth_time")
    ACR_FIELD_NUMBER: _ClassVar[int]
    AMR_FIELD_NUMBER: _ClassVar[int]
    AUTH_TIME_FIELD_NUMBER: _ClassVar[int]
    acr: str
    amr: _containers.RepeatedScalarFieldContainer[str]
    auth_time: _timestamp_pb2.Timestamp
    def __init__(self, acr: _Optional[str] = ..., amr: _Optional[_Iterable[str]] = ..., auth_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ...) -> None: ...

class Confirmation(_message.Message):
    __slots__ = ("jkt", "x5t_s256")
    JKT_FIELD_NUMBER: _ClassVar[int]
    X5T_S256_FIELD_NUMBER: _ClassVar[int]
    jkt: str
    x5t_s256: str
    def __init__(self, jkt: _Optional[str] = ..., x5t_s256: _Optional[str] = ...) -> None: ...

class ClientContext(_message.Message):
    __slots__ = ("ip_address", "user_agent")
    IP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    USER_AGENT_FIELD_NUMBER: _ClassVar[int]
    ip_address: str
    user_agent: str
    def __init__(self, ip_address: _Optional[str] = ..., user_agent: _Optional[str] = ...) -> None: ...

class Claims(_message.Message):
    __slots__ = ("token_type", "token_id", "session_id", "issuer", "subject", "audience", "client_id", "scopes", "issue_time", "not_before", "expire_time", "auth_context", "confirmation", "custom_claims", "actor")
    TOKEN_TYPE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    ISSUE_TIME_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    AUTH_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATION_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_CLAIMS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    token_type: TokenType
    token_id: str
    session_id: str
    issuer: str
    subject: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    client_id: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    issue_time: _timestamp_pb2.Timestamp
    not_before: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    auth_context: AuthContext
    confirmation: Confirmation
    custom_claims: _struct_pb2.Struct
    actor: _struct_pb2.Struct
    def __init__(self, token_type: _Optional[_Union[TokenType, str]] = ..., token_id: _Optional[str] = ..., session_id: _Optional[str] = ..., issuer: _Optional[str] = ..., subject: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ..., client_id: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., issue_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., auth_context: _Optional[_Union[AuthContext, _Mapping[str, _Any]]] = ..., confirmation: _Optional[_Union[Confirmation, _Mapping[str, _Any]]] = ..., custom_claims: _Optional[_Union[_struct_pb2.Struct, _Mapping[str, _Any]]] = ..., actor: _Optional[_Union[_struct_pb2.Struct, _Mapping[str, _Any]]] = ...) -> None: ...
