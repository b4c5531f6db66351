import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import Any as _Any, ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TokenEndpointAuthMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOKEN_ENDPOINT_AUTH_METHOD_UNSPECIFIED: _ClassVar[TokenEndpointAuthMethod]
    TOKEN_ENDPOINT_AUTH_METHOD_NONE: _ClassVar[TokenEndpointAuthMethod]
    TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC: _ClassVar[TokenEndpointAuthMethod]
    TOKEN_ENDPOINT_AUTH_METHOD_PRIVATE_KEY_JWT: _ClassVar[TokenEndpointAuthMethod]
    TOKEN_ENDPOINT_AUTH_METHOD_TLS_CLIENT_AUTH: _ClassVar[TokenEndpointAuthMethod]

class SubjectType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUBJECT_TYPE_UNSPECIFIED: _ClassVar[SubjectType]
    SUBJECT_TYPE_PUBLIC: _ClassVar[SubjectType]
    SUBJECT_TYPE_PAIRWISE: _ClassVar[SubjectType]

class SecurityProfile(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SECURITY_PROFILE_UNSPECIFIED: _ClassVar[SecurityProfile]
    SECURITY_PROFILE_NONE: _ClassVar[SecurityProfile]
    SECURITY_PROFILE_FAPI2: _ClassVar[SecurityProfile]

class ClientState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLIENT_STATE_UNSPECIFIED: _ClassVar[ClientState]
    CLIENT_STATE_ACTIVE: _ClassVar[ClientState]
    CLIENT_STATE_DISABLED: _ClassVar[ClientState]
TOKEN_ENDPOINT_AUTH_METHOD_UNSPECIFIED: TokenEndpointAuthMethod
TOKEN_ENDPOINT_AUTH_METHOD_NONE: TokenEndpointAuthMethod
TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC: TokenEndpointAuthMethod
TOKEN_ENDPOINT_AUTH_METHOD_PRIVATE_KEY_JWT: TokenEndpointAuthMethod
TOKEN_ENDPOINT_AUTH_METHOD_TLS_CLIENT_AUTH: TokenEndpointAuthMethod
SUBJECT_TYPE_UNSPECIFIED: SubjectType
SUBJECT_TYPE_PUBLIC: SubjectType
SUBJECT_TYPE_PAIRWISE: SubjectType
SECURITY_PROFILE_UNSPECIFIED: SecurityProfile
SECURITY_PROFILE_NONE: SecurityProfile
SECURITY_PROFILE_FAPI2: SecurityProfile
CLIENT_STATE_UNSPECIFIED: ClientState
CLIENT_STATE_ACTIVE: ClientState
CLIENT_STATE_DISABLED: ClientState

class ClientSecret(_message.Message):
    __slots__ = ("secret_id", "create_time", "expire_time", "last_use_time")
    SECRET_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_USE_TIME_FIELD_NUMBER: _ClassVar[int]
    secret_id: str
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    last_use_time: _timestamp_pb2.Timestamp
    def __init__(self, secret_id: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., last_use_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ...) -> None: ...

class Right(_message.Message):
    __slots__ = ("permission", "clients", "audiences", "scopes", "token_types", "may", "unbounded")
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TYPES_FIELD_NUMBER: _ClassVar[int]
    MAY_FIELD_NUMBER: _ClassVar[int]
    UNBOUNDED_FIELD_NUMBER: _ClassVar[int]
    permission: str
    clients: _containers.RepeatedScalarFieldContainer[str]
    audiences: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    token_types: _containers.RepeatedScalarFieldContainer[str]
    may: _containers.RepeatedScalarFieldContainer[str]
    unbounded: bool
    def __init__(self, permission: _Optional[str] = ..., clients: _Optional[_Iterable[str]] = ..., audiences: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[str]] = ..., token_types: _Optional[_Iterable[str]] = ..., may: _Optional[_Iterable[str]] = ..., unbounded: _Optional[bool] = ...) -> None: ...

class Client(_message.Message):
    __slots__ = ("client_id", "client_name", "token_endpoint_auth_method", "jwks", "jwks_uri", "accepts_endpoint_audience", "tls_client_auth_san_uri", "tls_client_auth_san_dns", "grant_types", "scopes", "audiences", "redirect_uris", "post_logout_redirect_uris", "backchannel_logout_uri", "allowed_origins", "classification", "sector_identifier_uri", "state", "secrets", "create_time", "update_time", "etag", "rights", "first_party", "subject_type", "dpop_bound_access_tokens", "tls_client_certificate_bound_access_tokens", "require_pushed_authorization_requests", "security_profile")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ENDPOINT_AUTH_METHOD_FIELD_NUMBER: _ClassVar[int]
    JWKS_FIELD_NUMBER: _ClassVar[int]
    JWKS_URI_FIELD_NUMBER: _ClassVar[int]
    ACCEPTS_ENDPOINT_AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    TLS_CLIENT_AUTH_SAN_URI_FIELD_NUMBER: _ClassVar[int]
    TLS_CLIENT_AUTH_SAN_DNS_FIELD_NUMBER: _ClassVar[int]
    GRANT_TYPES_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    REDIRECT_URIS_FIELD_NUMBER: _ClassVar[int]
    POST_LOGOUT_REDIRECT_URIS_FIELD_NUMBER: _ClassVar[int]
    BACKCHANNEL_LOGOUT_URI_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_ORIGINS_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    SECTOR_IDENTIFIER_URI_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    RIGHTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_PARTY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DPOP_BOUND_ACCESS_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TLS_CLIENT_CERTIFICATE_BOUND_ACCESS_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_PUSHED_AUTHORIZATION_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SECURITY_PROFILE_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    client_name: str
    token_endpoint_auth_method: TokenEndpointAuthMethod
    jwks: str
    jwks_uri: str
    accepts_endpoint_audience: bool
    tls_client_auth_san_uri: str
    tls_client_auth_san_dns: str
    grant_types: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    audiences: _containers.RepeatedScalarFieldContainer[str]
    redirect_uris: _containers.RepeatedScalarFieldContainer[str]
    post_logout_redirect_uris: _containers.RepeatedScalarFieldContainer[str]
    backchannel_logout_uri: str
    allowed_origins: _containers.RepeatedScalarFieldContainer[str]
    classification: str
    sector_identifier_uri: str
    state: ClientState
    secrets: _containers.RepeatedCompositeFieldContainer[ClientSecret]
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    etag: str
    rights: _containers.RepeatedCompositeFieldContainer[Right]
    first_party: bool
    subject_type: SubjectType
    dpop_bound_access_tokens: bool
    tls_client_certificate_bound_access_tokens: bool
    require_pushed_authorization_requests: bool
    security_profile: SecurityProfile
    def __init__(self, client_id: _Optional[str] = ..., client_name: _Optional[str] = ..., token_endpoint_auth_method: _Optional[_Union[TokenEndpointAuthMethod, str]] = ..., jwks: _Optional[str] = ..., jwks_uri: _Optional[str] = ..., accepts_endpoint_audience: _Optional[bool] = ..., tls_client_auth_san_uri: _Optional[str] = ..., tls_client_auth_san_dns: _Optional[str] = ..., grant_types: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[str]] = ..., audiences: _Optional[_Iterable[str]] = ..., redirect_uris: _Optional[_Iterable[str]] = ..., post_logout_redirect_uris: _Optional[_Iterable[str]] = ..., backchannel_logout_uri: _Optional[str] = ..., allowed_origins: _Optional[_Iterable[str]] = ..., classification: _Optional[str] = ..., sector_identifier_uri: _Optional[str] = ..., state: _Optional[_Union[ClientState, str]] = ..., secrets: _Optional[_Iterable[_Union[ClientSecret, _Mapping[str, _Any]]]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., etag: _Optional[str] = ..., rights: _Optional[_Iterable[_Union[Right, _Mapping[str, _Any]]]] = ..., first_party: _Optional[bool] = ..., subject_type: _Optional[_Union[SubjectType, str]] = ..., dpop_bound_access_tokens: _Optional[bool] = ..., tls_client_certificate_bound_access_tokens: _Optional[bool] = ..., require_pushed_authorization_requests: _Optional[bool] = ..., security_profile: _Optional[_Union[SecurityProfile, str]] = ...) -> None: ...

class CreateClientRequest(_message.Message):
    __slots__ = ("client", "secret_ttl")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SECRET_TTL_FIELD_NUMBER: _ClassVar[int]
    client: Client
    secret_ttl: _duration_pb2.Duration
    def __init__(self, client: _Optional[_Union[Client, _Mapping[str, _Any]]] = ..., secret_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ...) -> None: ...

class CreateClientResponse(_message.Message):
    __slots__ = ("client", "client_secret")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_SECRET_FIELD_NUMBER: _ClassVar[int]
    client: Client
    client_secret: str
    def __init__(self, client: _Optional[_Union[Client, _Mapping[str, _Any]]] = ..., client_secret: _Optional[str] = ...) -> None: ...

class GetClientRequest(_message.Message):
    __slots__ = ("client_id",)
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    def __init__(self, client_id: _Optional[str] = ...) -> None: ...

class GetClientResponse(_message.Message):
    __slots__ = ("client",)
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    client: Client
    def __init__(self, client: _Optional[_Union[Client, _Mapping[str, _Any]]] = ...) -> None: ...

class ListClientsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListClientsResponse(_message.Message):
    __slots__ = ("clients", "next_page_token")
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    clients: _containers.RepeatedCompositeFieldContainer[Client]
    next_page_token: str
    def __init__(self, clients: _Optional[_Iterable[_Union[Client, _Mapping[str, _Any]]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateClientRequest(_message.Message):
    __slots__ = ("client", "update_mask")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    client: Client
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, client: _Optional[_Union[Client, _Mapping[str, _Any]]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping[str, _Any]]] = ...) -> None: ...

class UpdateClientResponse(_message.Message):
    __slots__ = ("client",)
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    client: Client
    def __init__(self, client: _Optional[_Union[Client, _Mapping[str, _Any]]] = ...) -> None: ...

class RotateClientSecretRequest(_message.Message):
    __slots__ = ("client_id", "etag", "overlap", "secret_ttl")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    SECRET_TTL_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    etag: str
    overlap: _duration_pb2.Duration
    secret_ttl: _duration_pb2.Duration
    def __init__(self, client_id: _Optional[str] = ..., etag: _Optional[str] = ..., overlap: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., secret_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ...) -> None: ...

class RotateClientSecretResponse(_message.Message):
    __slots__ = ("client", "client_secret")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_SECRET_FIELD_NUMBER: _ClassVar[int]
    client: Client
    client_secret: str
    def __init__(self, client: _Optional[_Union[Client, _Mapping[str, _Any]]] = ..., client_secret: _Optional[str] = ...) -> None: ...

class DisableClientRequest(_message.Message):
    __slots__ = ("client_id", "etag", "comment")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    etag: str
    comment: str
    def __init__(self, client_id: _Optional[str] = ..., etag: _Optional[str] = ..., comment: _Optional[str] = ...) -> None: ...

class DisableClientResponse(_message.Message):
    __slots__ = ("client", "cursor")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    client: Client
    cursor: str
    def __init__(self, client: _Optional[_Union[Client, _Mapping[str, _Any]]] = ..., cursor: _Optional[str] = ...) -> None: ...

class EnableClientRequest(_message.Message):
    __slots__ = ("client_id", "etag")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    etag: str
    def __init__(self, client_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class EnableClientResponse(_message.Message):
    __slots__ = ("client",)
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    client: Client
    def __init__(self, client: _Optional[_Union[Client, _Mapping[str, _Any]]] = ...) -> None: ...

class DeleteClientRequest(_message.Message):
    __slots__ = ("client_id", "etag", "comment")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    etag: str
    comment: str
    def __init__(self, client_id: _Optional[str] = ..., etag: _Optional[str] = ..., comment: _Optional[str] = ...) -> None: ...

class DeleteClientResponse(_message.Message):
    __slots__ = ("cursor",)
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    def __init__(self, cursor: _Optional[str] = ...) -> None: ...
