import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from token_service.v1 import key_service_pb2 as _key_service_pb2
from token_service.v1 import token_pb2 as _token_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import Any as _Any, ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Consistency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSISTENCY_UNSPECIFIED: _ClassVar[Consistency]
    CONSISTENCY_LOCAL: _ClassVar[Consistency]
    CONSISTENCY_STRONG: _ClassVar[Consistency]

class InvalidReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INVALID_REASON_UNSPECIFIED: _ClassVar[InvalidReason]
    INVALID_REASON_MALFORMED: _ClassVar[InvalidReason]
    INVALID_REASON_BAD_SIGNATURE: _ClassVar[InvalidReason]
    INVALID_REASON_UNKNOWN_KEY: _ClassVar[InvalidReason]
    INVALID_REASON_EXPIRED: _ClassVar[InvalidReason]
    INVALID_REASON_NOT_YET_VALID: _ClassVar[InvalidReason]
    INVALID_REASON_WRONG_ISSUER: _ClassVar[InvalidReason]
    INVALID_REASON_WRONG_AUDIENCE: _ClassVar[InvalidReason]
    INVALID_REASON_INSUFFICIENT_SCOPE: _ClassVar[InvalidReason]
    INVALID_REASON_REVOKED: _ClassVar[InvalidReason]
    INVALID_REASON_WRONG_TYPE: _ClassVar[InvalidReason]
    INVALID_REASON_UNKNOWN_SESSION: _ClassVar[InvalidReason]
    INVALID_REASON_SUPERSEDED: _ClassVar[InvalidReason]
    INVALID_REASON_TOO_LARGE: _ClassVar[InvalidReason]
    INVALID_REASON_PROOF_MISSING: _ClassVar[InvalidReason]
    INVALID_REASON_PROOF_INVALID: _ClassVar[InvalidReason]
    INVALID_REASON_PROOF_NONCE: _ClassVar[InvalidReason]
    INVALID_REASON_WRONG_KEY: _ClassVar[InvalidReason]
    INVALID_REASON_MISSING_ROLE: _ClassVar[InvalidReason]
    INVALID_REASON_INSUFFICIENT_AUTHENTICATION: _ClassVar[InvalidReason]

class RevocationReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REVOCATION_REASON_UNSPECIFIED: _ClassVar[RevocationReason]
    REVOCATION_REASON_LOGOUT: _ClassVar[RevocationReason]
    REVOCATION_REASON_COMPROMISED: _ClassVar[RevocationReason]
    REVOCATION_REASON_ADMINISTRATIVE: _ClassVar[RevocationReason]
    REVOCATION_REASON_REFRESH_TOKEN_REUSED: _ClassVar[RevocationReason]
    REVOCATION_REASON_CREDENTIALS_CHANGED: _ClassVar[RevocationReason]
    REVOCATION_REASON_CLIENT_DISABLED: _ClassVar[RevocationReason]

class BlockTarget(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BLOCK_TARGET_UNSPECIFIED: _ClassVar[BlockTarget]
    BLOCK_TARGET_TOKEN_ID: _ClassVar[BlockTarget]
    BLOCK_TARGET_SESSION_ID: _ClassVar[BlockTarget]
CONSISTENCY_UNSPECIFIED: Consistency
CONSISTENCY_LOCAL: Consistency
CONSISTENCY_STRONG: Consistency
INVALID_REASON_UNSPECIFIED: InvalidReason
INVALID_REASON_MALFORMED: InvalidReason
INVALID_REASON_BAD_SIGNATURE: InvalidReason
INVALID_REASON_UNKNOWN_KEY: InvalidReason
INVALID_REASON_EXPIRED: InvalidReason
INVALID_REASON_NOT_YET_VALID: InvalidReason
INVALID_REASON_WRONG_ISSUER: InvalidReason
INVALID_REASON_WRONG_AUDIENCE: InvalidReason
INVALID_REASON_INSUFFICIENT_SCOPE: InvalidReason
INVALID_REASON_REVOKED: InvalidReason
INVALID_REASON_WRONG_TYPE: InvalidReason
INVALID_REASON_UNKNOWN_SESSION: InvalidReason
INVALID_REASON_SUPERSEDED: InvalidReason
INVALID_REASON_TOO_LARGE: InvalidReason
INVALID_REASON_PROOF_MISSING: InvalidReason
INVALID_REASON_PROOF_INVALID: InvalidReason
INVALID_REASON_PROOF_NONCE: InvalidReason
INVALID_REASON_WRONG_KEY: InvalidReason
INVALID_REASON_MISSING_ROLE: InvalidReason
INVALID_REASON_INSUFFICIENT_AUTHENTICATION: InvalidReason
REVOCATION_REASON_UNSPECIFIED: RevocationReason
REVOCATION_REASON_LOGOUT: RevocationReason
REVOCATION_REASON_COMPROMISED: RevocationReason
REVOCATION_REASON_ADMINISTRATIVE: RevocationReason
REVOCATION_REASON_REFRESH_TOKEN_REUSED: RevocationReason
REVOCATION_REASON_CREDENTIALS_CHANGED: RevocationReason
REVOCATION_REASON_CLIENT_DISABLED: RevocationReason
BLOCK_TARGET_UNSPECIFIED: BlockTarget
BLOCK_TARGET_TOKEN_ID: BlockTarget
BLOCK_TARGET_SESSION_ID: BlockTarget

class IssueTokenRequest(_message.Message):
    __slots__ = ("subject", "client_id", "audience", "scopes", "token_types", "auth_context", "custom_claims", "device_id", "access_token_ttl", "refresh_token_ttl", "confirmation", "nonce", "request_id", "client_context")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TYPES_FIELD_NUMBER: _ClassVar[int]
    AUTH_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_CLAIMS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    ACCESS_TOKEN_TTL_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_TTL_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATION_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    subject: str
    client_id: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    token_types: _containers.RepeatedScalarFieldContainer[_token_pb2.TokenType]
    auth_context: _token_pb2.AuthContext
    custom_claims: _struct_pb2.Struct
    device_id: str
    access_token_ttl: _duration_pb2.Duration
    refresh_token_ttl: _duration_pb2.Duration
    confirmation: _token_pb2.Confirmation
    nonce: str
    request_id: str
    client_context: _token_pb2.ClientContext
    def __init__(self, subject: _Optional[str] = ..., client_id: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[str]] = ..., token_types: _Optional[_Iterable[_Union[_token_pb2.TokenType, str]]] = ..., auth_context: _Optional[_Union[_token_pb2.AuthContext, _Mapping[str, _Any]]] = ..., custom_claims: _Optional[_Union[_struct_pb2.Struct, _Mapping[str, _Any]]] = ..., device_id: _Optional[str] = ..., access_token_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., refresh_token_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., confirmation: _Optional[_Union[_token_pb2.Confirmation, _Mapping[str, _Any]]] = ..., nonce: _Optional[str] = ..., request_id: _Optional[str] = ..., client_context: _Optional[_Union[_token_pb2.ClientContext, _Mapping[str, _Any]]] = ...) -> None: ...

class IssueTokenResponse(_message.Message):
    __slots__ = ("access_token", "token_type", "access_token_expire_time", "refresh_token", "refresh_token_expire_time", "id_token", "session_token", "session_id", "token_id", "scopes")
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TYPE_FIELD_NUMBER: _ClassVar[int]
    ACCESS_TOKEN_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ID_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    access_token: str
    token_type: str
    access_token_expire_time: _timestamp_pb2.Timestamp
    refresh_token: str
    refresh_token_expire_time: _timestamp_pb2.Timestamp
    id_token: str
    session_token: str
    session_id: str
    token_id: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, access_token: _Optional[str] = ..., token_type: _Optional[str] = ..., access_token_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., refresh_token: _Optional[str] = ..., refresh_token_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., id_token: _Optional[str] = ..., session_token: _Optional[str] = ..., session_id: _Optional[str] = ..., token_id: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ...) -> None: ...

class Binding(_message.Message):
    __slots__ = ("dpop_proof", "http_method", "http_uri", "certificate_thumbprint")
    DPOP_PROOF_FIELD_NUMBER: _ClassVar[int]
    HTTP_METHOD_FIELD_NUMBER: _ClassVar[int]
    HTTP_URI_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_THUMBPRINT_FIELD_NUMBER: _ClassVar[int]
    dpop_proof: str
    http_method: str
    http_uri: str
    certificate_thumbprint: str
    def __init__(self, dpop_proof: _Optional[str] = ..., http_method: _Optional[str] = ..., http_uri: _Optional[str] = ..., certificate_thumbprint: _Optional[str] = ...) -> None: ...

class ValidateTokenRequest(_message.Message):
    __slots__ = ("token", "audience", "required_scopes", "consistency", "token_type_hint", "binding", "caller_checks_binding")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_SCOPES_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TYPE_HINT_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    CALLER_CHECKS_BINDING_FIELD_NUMBER: _ClassVar[int]
    token: str
    audience: str
    required_scopes: _containers.RepeatedScalarFieldContainer[str]
    consistency: Consistency
    token_type_hint: _token_pb2.TokenType
    binding: Binding
    caller_checks_binding: bool
    def __init__(self, token: _Optional[str] = ..., audience: _Optional[str] = ..., required_scopes: _Optional[_Iterable[str]] = ..., consistency: _Optional[_Union[Consistency, str]] = ..., token_type_hint: _Optional[_Union[_token_pb2.TokenType, str]] = ..., binding: _Optional[_Union[Binding, _Mapping[str, _Any]]] = ..., caller_checks_binding: _Optional[bool] = ...) -> None: ...

class ValidateTokenResponse(_message.Message):
    __slots__ = ("active", "reason", "claims", "cursor")
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    active: bool
    reason: InvalidReason
    claims: _token_pb2.Claims
    cursor: str
    def __init__(self, active: _Optional[bool] = ..., reason: _Optional[_Union[InvalidReason, str]] = ..., claims: _Optional[_Union[_token_pb2.Claims, _Mapping[str, _Any]]] = ..., cursor: _Optional[str] = ...) -> None: ...

class BatchValidateTokensRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[ValidateTokenRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[ValidateTokenRequest, _Mapping[str, _Any]]]] = ...) -> None: ...

class BatchValidateTokensResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[ValidateTokenResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[ValidateTokenResponse, _Mapping[str, _Any]]]] = ...) -> None: ...

class RefreshTokenRequest(_message.Message):
    __slots__ = ("refresh_token", "client_id", "device_id", "scopes", "audience", "client_context", "binding")
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    refresh_token: str
    client_id: str
    device_id: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    audience: _containers.RepeatedScalarFieldContainer[str]
    client_context: _token_pb2.ClientContext
    binding: Binding
    def __init__(self, refresh_token: _Optional[str] = ..., client_id: _Optional[str] = ..., device_id: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., audience: _Optional[_Iterable[str]] = ..., client_context: _Optional[_Union[_token_pb2.ClientContext, _Mapping[str, _Any]]] = ..., binding: _Optional[_Union[Binding, _Mapping[str, _Any]]] = ...) -> None: ...

class RefreshTokenResponse(_message.Message):
    __slots__ = ("access_token", "token_type", "access_token_expire_time", "refresh_token", "refresh_token_expire_time", "id_token", "session_token", "session_id", "token_id", "scopes")
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TYPE_FIELD_NUMBER: _ClassVar[int]
    ACCESS_TOKEN_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ID_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    access_token: str
    token_type: str
    access_token_expire_time: _timestamp_pb2.Timestamp
    refresh_token: str
    refresh_token_expire_time: _timestamp_pb2.Timestamp
    id_token: str
    session_token: str
    session_id: str
    token_id: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, access_token: _Optional[str] = ..., token_type: _Optional[str] = ..., access_token_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., refresh_token: _Optional[str] = ..., refresh_token_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., id_token: _Optional[str] = ..., session_token: _Optional[str] = ..., session_id: _Optional[str] = ..., token_id: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ...) -> None: ...

class RevokeTokenRequest(_message.Message):
    __slots__ = ("token", "token_id", "session_id", "subject", "client_id", "key_id", "everything", "reason", "comment", "wait")
    class Wait(_message.Message):
        __slots__ = ("applied_by_all", "timeout")
        APPLIED_BY_ALL_FIELD_NUMBER: _ClassVar[int]
        TIMEOUT_FIELD_NUMBER: _ClassVar[int]
        applied_by_all: bool
        timeout: _duration_pb2.Duration
        def __init__(self, applied_by_all: _Optional[bool] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ...) -> None: ...
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    token: str
    token_id: str
    session_id: str
    subject: str
    client_id: str
    key_id: str
    everything: bool
    reason: RevocationReason
    comment: str
    wait: RevokeTokenRequest.Wait
    def __init__(self, token: _Optional[str] = ..., token_id: _Optional[str] = ..., session_id: _Optional[str] = ..., subject: _Optional[str] = ..., client_id: _Optional[str] = ..., key_id: _Optional[str] = ..., everything: _Optional[bool] = ..., reason: _Optional[_Union[RevocationReason, str]] = ..., comment: _Optional[str] = ..., wait: _Optional[_Union[RevokeTokenRequest.Wait, _Mapping[str, _Any]]] = ...) -> None: ...

class RevokeTokenResponse(_message.Message):
    __slots__ = ("cursor", "subscribers_connected", "subscribers_applied", "subscribers_silent")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_CONNECTED_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_APPLIED_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_SILENT_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    subscribers_connected: int
    subscribers_applied: int
    subscribers_silent: int
    def __init__(self, cursor: _Optional[str] = ..., subscribers_connected: _Optional[int] = ..., subscribers_applied: _Optional[int] = ..., subscribers_silent: _Optional[int] = ...) -> None: ...

class StreamRevocationsRequest(_message.Message):
    __slots__ = ("cursor", "subscriber_id")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBER_ID_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    subscriber_id: str
    def __init__(self, cursor: _Optional[str] = ..., subscriber_id: _Optional[str] = ...) -> None: ...

class Revocation(_message.Message):
    __slots__ = ("sequence", "token_id", "session_id", "subject", "client_id", "key_id", "everything", "revoke_time", "expire_time", "reason", "token_expire_time")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    REVOKE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TOKEN_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    token_id: str
    session_id: str
    subject: str
    client_id: str
    key_id: str
    everything: bool
    revoke_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    reason: RevocationReason
    token_expire_time: _timestamp_pb2.Timestamp
    def __init__(self, sequence: _Optional[int] = ..., token_id: _Optional[str] = ..., session_id: _Optional[str] = ..., subject: _Optional[str] = ..., client_id: _Optional[str] = ..., key_id: _Optional[str] = ..., everything: _Optional[bool] = ..., revoke_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., reason: _Optional[_Union[RevocationReason, str]] = ..., token_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ...) -> None: ...

class SnapshotBlock(_message.Message):
    __slots__ = ("target", "bucket", "fingerprints", "expire_time")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINTS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    target: BlockTarget
    bucket: int
    fingerprints: bytes
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, target: _Optional[_Union[BlockTarget, str]] = ..., bucket: _Optional[int] = ..., fingerprints: _Optional[bytes] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ...) -> None: ...

class StreamRevocationsResponse(_message.Message):
    __slots__ = ("reset", "revocations", "snapshot_blocks", "key_set", "cursor", "caught_up", "confirmation_requested")
    RESET_FIELD_NUMBER: _ClassVar[int]
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    KEY_SET_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    CAUGHT_UP_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATION_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    reset: bool
    revocations: _containers.RepeatedCompositeFieldContainer[Revocation]
    snapshot_blocks: _containers.RepeatedCompositeFieldContainer[SnapshotBlock]
    key_set: _key_service_pb2.KeySet
    cursor: str
    caught_up: bool
    confirmation_requested: bool
    def __init__(self, reset: _Optional[bool] = ..., revocations: _Optional[_Iterable[_Union[Revocation, _Mapping[str, _Any]]]] = ..., snapshot_blocks: _Optional[_Iterable[_Union[SnapshotBlock, _Mapping[str, _Any]]]] = ..., key_set: _Optional[_Union[_key_service_pb2.KeySet, _Mapping[str, _Any]]] = ..., cursor: _Optional[str] = ..., caught_up: _Optional[bool] = ..., confirmation_requested: _Optional[bool] = ...) -> None: ...

class ConfirmRevocationsRequest(_message.Message):
    __slots__ = ("subscriber_id", "applied_cursor", "key_set_revision", "client_version", "refusals", "validated")
    class Refusals(_message.Message):
        __slots__ = ("reason", "count")
        REASON_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        reason: str
        count: int
        def __init__(self, reason: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...
    SUBSCRIBER_ID_FIELD_NUMBER: _ClassVar[int]
    APPLIED_CURSOR_FIELD_NUMBER: _ClassVar[int]
    KEY_SET_REVISION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    VALIDATED_FIELD_NUMBER: _ClassVar[int]
    subscriber_id: str
    applied_cursor: str
    key_set_revision: int
    client_version: str
    refusals: _containers.RepeatedCompositeFieldContainer[ConfirmRevocationsRequest.Refusals]
    validated: int
    def __init__(self, subscriber_id: _Optional[str] = ..., applied_cursor: _Optional[str] = ..., key_set_revision: _Optional[int] = ..., client_version: _Optional[str] = ..., refusals: _Optional[_Iterable[_Union[ConfirmRevocationsRequest.Refusals, _Mapping[str, _Any]]]] = ..., validated: _Optional[int] = ...) -> None: ...

class ConfirmRevocationsResponse(_message.Message):
    __slots__ = ("head_cursor",)
    HEAD_CURSOR_FIELD_NUMBER: _ClassVar[int]
    head_cursor: str
    def __init__(self, head_cursor: _Optional[str] = ...) -> None: ...
