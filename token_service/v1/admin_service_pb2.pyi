import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from token_service.v1 import client_service_pb2 as _client_service_pb2
from token_service.v1 import session_service_pb2 as _session_service_pb2
from token_service.v1 import token_service_pb2 as _token_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import Any as _Any, ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetOverviewRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetOverviewResponse(_message.Message):
    __slots__ = ("version", "issuer", "schema_revision", "head_cursor", "nodes", "subscribers_connected", "subscribers_behind", "subscribers_silent", "propagation", "revocations", "sessions_active", "clients_active", "keys", "jobs", "policies_revision", "problems")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_REVISION_FIELD_NUMBER: _ClassVar[int]
    HEAD_CURSOR_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_CONNECTED_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_BEHIND_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_SILENT_FIELD_NUMBER: _ClassVar[int]
    PROPAGATION_FIELD_NUMBER: _ClassVar[int]
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    POLICIES_REVISION_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    version: str
    issuer: str
    schema_revision: str
    head_cursor: str
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    subscribers_connected: int
    subscribers_behind: int
    subscribers_silent: int
    propagation: Propagation
    revocations: int
    sessions_active: int
    clients_active: int
    keys: _containers.RepeatedCompositeFieldContainer[KeySummary]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    policies_revision: int
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    def __init__(self, version: _Optional[str] = ..., issuer: _Optional[str] = ..., schema_revision: _Optional[str] = ..., head_cursor: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[Node, _Mapping[str, _Any]]]] = ..., subscribers_connected: _Optional[int] = ..., subscribers_behind: _Optional[int] = ..., subscribers_silent: _Optional[int] = ..., propagation: _Optional[_Union[Propagation, _Mapping[str, _Any]]] = ..., revocations: _Optional[int] = ..., sessions_active: _Optional[int] = ..., clients_active: _Optional[int] = ..., keys: _Optional[_Iterable[_Union[KeySummary, _Mapping[str, _Any]]]] = ..., jobs: _Optional[_Iterable[_Union[Job, _Mapping[str, _Any]]]] = ..., policies_revision: _Optional[int] = ..., problems: _Optional[_Iterable[_Union[Problem, _Mapping[str, _Any]]]] = ...) -> None: ...

class Propagation(_message.Message):
    __slots__ = ("count", "median", "p99", "longest", "last_time")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    LONGEST_FIELD_NUMBER: _ClassVar[int]
    LAST_TIME_FIELD_NUMBER: _ClassVar[int]
    count: int
    median: _duration_pb2.Duration
    p99: _duration_pb2.Duration
    longest: _duration_pb2.Duration
    last_time: _timestamp_pb2.Timestamp
    def __init__(self, count: _Optional[int] = ..., median: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., p99: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., longest: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., last_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ...) -> None: ...

class KeySummary(_message.Message):
    __slots__ = ("key_id", "algorithm", "state", "activate_time", "next_change_time")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ACTIVATE_TIME_FIELD_NUMBER: _ClassVar[int]
    NEXT_CHANGE_TIME_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    algorithm: str
    state: str
    activate_time: _timestamp_pb2.Timestamp
    next_change_time: _timestamp_pb2.Timestamp
    def __init__(self, key_id: _Optional[str] = ..., algorithm: _Optional[str] = ..., state: _Optional[str] = ..., activate_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., next_change_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("name", "node_id", "last_run_time", "backlog")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_RUN_TIME_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    name: str
    node_id: str
    last_run_time: _timestamp_pb2.Timestamp
    backlog: int
    def __init__(self, name: _Optional[str] = ..., node_id: _Optional[str] = ..., last_run_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., backlog: _Optional[int] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("name", "severity", "message", "node_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    severity: str
    message: str
    node_id: str
    def __init__(self, name: _Optional[str] = ..., severity: _Optional[str] = ..., message: _Optional[str] = ..., node_id: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("node_id", "host", "version", "start_time", "report_age", "applied_cursor", "staleness", "subscribers", "ready", "problems", "redis", "database_connections", "database_connections_max", "database_waiting", "jobs", "certificate_expire_time", "key_set_revision", "policies_revision")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    REPORT_AGE_FIELD_NUMBER: _ClassVar[int]
    APPLIED_CURSOR_FIELD_NUMBER: _ClassVar[int]
    STALENESS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    REDIS_FIELD_NUMBER: _ClassVar[int]
    DATABASE_CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    DATABASE_CONNECTIONS_MAX_FIELD_NUMBER: _ClassVar[int]
    DATABASE_WAITING_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    KEY_SET_REVISION_FIELD_NUMBER: _ClassVar[int]
    POLICIES_REVISION_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    host: str
    version: str
    start_time: _timestamp_pb2.Timestamp
    report_age: _duration_pb2.Duration
    applied_cursor: str
    staleness: _duration_pb2.Duration
    subscribers: int
    ready: bool
    problems: _containers.RepeatedScalarFieldContainer[str]
    redis: str
    database_connections: int
    database_connections_max: int
    database_waiting: int
    jobs: _containers.RepeatedScalarFieldContainer[str]
    certificate_expire_time: _timestamp_pb2.Timestamp
    key_set_revision: int
    policies_revision: int
    def __init__(self, node_id: _Optional[str] = ..., host: _Optional[str] = ..., version: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., report_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., applied_cursor: _Optional[str] = ..., staleness: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., subscribers: _Optional[int] = ..., ready: _Optional[bool] = ..., problems: _Optional[_Iterable[str]] = ..., redis: _Optional[str] = ..., database_connections: _Optional[int] = ..., database_connections_max: _Optional[int] = ..., database_waiting: _Optional[int] = ..., jobs: _Optional[_Iterable[str]] = ..., certificate_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., key_set_revision: _Optional[int] = ..., policies_revision: _Optional[int] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping[str, _Any]]]] = ...) -> None: ...

class Subscriber(_message.Message):
    __slots__ = ("subscriber_id", "caller", "node_id", "client_version", "applied_cursor", "entries_behind", "confirmation_age", "silent", "key_set_revision", "connected_for", "validated", "refusals")
    class RefusalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SUBSCRIBER_ID_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    APPLIED_CURSOR_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_BEHIND_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATION_AGE_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    KEY_SET_REVISION_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FOR_FIELD_NUMBER: _ClassVar[int]
    VALIDATED_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    subscriber_id: str
    caller: str
    node_id: str
    client_version: str
    applied_cursor: str
    entries_behind: int
    confirmation_age: _duration_pb2.Duration
    silent: bool
    key_set_revision: int
    connected_for: _duration_pb2.Duration
    validated: int
    refusals: _containers.ScalarMap[str, int]
    def __init__(self, subscriber_id: _Optional[str] = ..., caller: _Optional[str] = ..., node_id: _Optional[str] = ..., client_version: _Optional[str] = ..., applied_cursor: _Optional[str] = ..., entries_behind: _Optional[int] = ..., confirmation_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., silent: _Optional[bool] = ..., key_set_revision: _Optional[int] = ..., connected_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping[str, _Any]]] = ..., validated: _Optional[int] = ..., refusals: _Optional[_Mapping[str, int]] = ...) -> None: ...

class ListSubscribersRequest(_message.Message):
    __slots__ = ("caller", "node_id", "behind_only", "page_size", "page_token")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    BEHIND_ONLY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    caller: str
    node_id: str
    behind_only: bool
    page_size: int
    page_token: str
    def __init__(self, caller: _Optional[str] = ..., node_id: _Optional[str] = ..., behind_only: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSubscribersResponse(_message.Message):
    __slots__ = ("subscribers", "next_page_token", "head_cursor", "missing_nodes")
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HEAD_CURSOR_FIELD_NUMBER: _ClassVar[int]
    MISSING_NODES_FIELD_NUMBER: _ClassVar[int]
    subscribers: _containers.RepeatedCompositeFieldContainer[Subscriber]
    next_page_token: str
    head_cursor: str
    missing_nodes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, subscribers: _Optional[_Iterable[_Union[Subscriber, _Mapping[str, _Any]]]] = ..., next_page_token: _Optional[str] = ..., head_cursor: _Optional[str] = ..., missing_nodes: _Optional[_Iterable[str]] = ...) -> None: ...

class LiveRevocation(_message.Message):
    __slots__ = ("revocation", "comment", "actor")
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    revocation: _token_service_pb2.Revocation
    comment: str
    actor: str
    def __init__(self, revocation: _Optional[_Union[_token_service_pb2.Revocation, _Mapping[str, _Any]]] = ..., comment: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class ListRevocationsRequest(_message.Message):
    __slots__ = ("target", "id", "reason", "page_size", "page_token")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    target: str
    id: str
    reason: _token_service_pb2.RevocationReason
    page_size: int
    page_token: str
    def __init__(self, target: _Optional[str] = ..., id: _Optional[str] = ..., reason: _Optional[_Union[_token_service_pb2.RevocationReason, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRevocationsResponse(_message.Message):
    __slots__ = ("revocations", "next_page_token")
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    revocations: _containers.RepeatedCompositeFieldContainer[LiveRevocation]
    next_page_token: str
    def __init__(self, revocations: _Optional[_Iterable[_Union[LiveRevocation, _Mapping[str, _Any]]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PreviewRevocationRequest(_message.Message):
    __slots__ = ("token", "token_id", "session_id", "subject", "client_id", "key_id", "everything")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    token: str
    token_id: str
    session_id: str
    subject: str
    client_id: str
    key_id: str
    everything: bool
    def __init__(self, token: _Optional[str] = ..., token_id: _Optional[str] = ..., session_id: _Optional[str] = ..., subject: _Optional[str] = ..., client_id: _Optional[str] = ..., key_id: _Optional[str] = ..., everything: _Optional[bool] = ...) -> None: ...

class PreviewRevocationResponse(_message.Message):
    __slots__ = ("target", "sessions", "subjects", "clients", "clients_count", "tokens_expire_time", "subscribers", "already_revoked", "warnings", "accuracy")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    ALREADY_REVOKED_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    target: str
    sessions: int
    subjects: int
    clients: _containers.RepeatedScalarFieldContainer[str]
    clients_count: int
    tokens_expire_time: _timestamp_pb2.Timestamp
    subscribers: int
    already_revoked: bool
    warnings: _containers.RepeatedScalarFieldContainer[str]
    accuracy: _session_service_pb2.CountAccuracy
    def __init__(self, target: _Optional[str] = ..., sessions: _Optional[int] = ..., subjects: _Optional[int] = ..., clients: _Optional[_Iterable[str]] = ..., clients_count: _Optional[int] = ..., tokens_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., subscribers: _Optional[int] = ..., already_revoked: _Optional[bool] = ..., warnings: _Optional[_Iterable[str]] = ..., accuracy: _Optional[_Union[_session_service_pb2.CountAccuracy, str]] = ...) -> None: ...

class PreviewKeyRetirementRequest(_message.Message):
    __slots__ = ("key_id",)
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    def __init__(self, key_id: _Optional[str] = ...) -> None: ...

class PreviewKeyRetirementResponse(_message.Message):
    __slots__ = ("allowed", "problem", "tokens_expire_time", "subscribers_without_successor", "allow_time", "subscribers", "nodes")
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    TOKENS_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_WITHOUT_SUCCESSOR_FIELD_NUMBER: _ClassVar[int]
    ALLOW_TIME_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    allowed: bool
    problem: str
    tokens_expire_time: _timestamp_pb2.Timestamp
    subscribers_without_successor: int
    allow_time: _timestamp_pb2.Timestamp
    subscribers: _containers.RepeatedScalarFieldContainer[str]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, allowed: _Optional[bool] = ..., problem: _Optional[str] = ..., tokens_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., subscribers_without_successor: _Optional[int] = ..., allow_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., subscribers: _Optional[_Iterable[str]] = ..., nodes: _Optional[_Iterable[str]] = ...) -> None: ...

class GetEffectiveConfigurationRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EffectiveSetting(_message.Message):
    __slots__ = ("name", "value", "source", "reloadable", "pending_value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    RELOADABLE_FIELD_NUMBER: _ClassVar[int]
    PENDING_VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    source: str
    reloadable: bool
    pending_value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., source: _Optional[str] = ..., reloadable: _Optional[bool] = ..., pending_value: _Optional[str] = ...) -> None: ...

class GetEffectiveConfigurationResponse(_message.Message):
    __slots__ = ("node_id", "settings", "reload_time", "reload_problem")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    RELOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    RELOAD_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    settings: _containers.RepeatedCompositeFieldContainer[EffectiveSetting]
    reload_time: _timestamp_pb2.Timestamp
    reload_problem: str
    def __init__(self, node_id: _Optional[str] = ..., settings: _Optional[_Iterable[_Union[EffectiveSetting, _Mapping[str, _Any]]]] = ..., reload_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., reload_problem: _Optional[str] = ...) -> None: ...

class ExplainAccessRequest(_message.Message):
    __slots__ = ("names", "method", "client_id", "subject", "audience", "scopes", "token_types", "uses")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TYPES_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    method: str
    client_id: str
    subject: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    token_types: _containers.RepeatedScalarFieldContainer[str]
    uses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ..., method: _Optional[str] = ..., client_id: _Optional[str] = ..., subject: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[str]] = ..., token_types: _Optional[_Iterable[str]] = ..., uses: _Optional[_Iterable[str]] = ...) -> None: ...

class ExplainAccessResponse(_message.Message):
    __slots__ = ("allowed", "reason", "permission", "entries", "rights")
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    RIGHTS_FIELD_NUMBER: _ClassVar[int]
    allowed: bool
    reason: str
    permission: str
    entries: _containers.RepeatedScalarFieldContainer[str]
    rights: _containers.RepeatedCompositeFieldContainer[_client_service_pb2.Right]
    def __init__(self, allowed: _Optional[bool] = ..., reason: _Optional[str] = ..., permission: _Optional[str] = ..., entries: _Optional[_Iterable[str]] = ..., rights: _Optional[_Iterable[_Union[_client_service_pb2.Right, _Mapping[str, _Any]]]] = ...) -> None: ...

class PolicyValue(_message.Message):
    __slots__ = ("path", "value", "source")
    PATH_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    path: str
    value: str
    source: str
    def __init__(self, path: _Optional[str] = ..., value: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...

class GetPoliciesRequest(_message.Message):
    __slots__ = ("client_id", "audience")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, client_id: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ...) -> None: ...

class GetPoliciesResponse(_message.Message):
    __slots__ = ("values", "classification", "revision", "update_time", "updated_by", "default_classification", "problem")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATED_BY_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[PolicyValue]
    classification: str
    revision: int
    update_time: _timestamp_pb2.Timestamp
    updated_by: str
    default_classification: str
    problem: str
    def __init__(self, values: _Optional[_Iterable[_Union[PolicyValue, _Mapping[str, _Any]]]] = ..., classification: _Optional[str] = ..., revision: _Optional[int] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., updated_by: _Optional[str] = ..., default_classification: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...

class CheckPoliciesRequest(_message.Message):
    __slots__ = ("file", "overrides")
    FILE_FIELD_NUMBER: _ClassVar[int]
    OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    file: str
    overrides: PolicyChanges
    def __init__(self, file: _Optional[str] = ..., overrides: _Optional[_Union[PolicyChanges, _Mapping[str, _Any]]] = ...) -> None: ...

class PolicyChanges(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[PolicyValue]
    def __init__(self, values: _Optional[_Iterable[_Union[PolicyValue, _Mapping[str, _Any]]]] = ...) -> None: ...

class PolicyDifference(_message.Message):
    __slots__ = ("path", "before", "after")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    path: str
    before: str
    after: str
    def __init__(self, path: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class CheckPoliciesResponse(_message.Message):
    __slots__ = ("accepted", "problems", "differences", "omitted_differences")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    OMITTED_DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    problems: _containers.RepeatedScalarFieldContainer[str]
    differences: _containers.RepeatedCompositeFieldContainer[PolicyDifference]
    omitted_differences: int
    def __init__(self, accepted: _Optional[bool] = ..., problems: _Optional[_Iterable[str]] = ..., differences: _Optional[_Iterable[_Union[PolicyDifference, _Mapping[str, _Any]]]] = ..., omitted_differences: _Optional[int] = ...) -> None: ...

class SetPoliciesRequest(_message.Message):
    __slots__ = ("changes", "revision", "comment")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    changes: PolicyChanges
    revision: int
    comment: str
    def __init__(self, changes: _Optional[_Union[PolicyChanges, _Mapping[str, _Any]]] = ..., revision: _Optional[int] = ..., comment: _Optional[str] = ...) -> None: ...

class SetPoliciesResponse(_message.Message):
    __slots__ = ("revision", "differences")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    revision: int
    differences: _containers.RepeatedCompositeFieldContainer[PolicyDifference]
    def __init__(self, revision: _Optional[int] = ..., differences: _Optional[_Iterable[_Union[PolicyDifference, _Mapping[str, _Any]]]] = ...) -> None: ...

class ResetPoliciesRequest(_message.Message):
    __slots__ = ("paths", "revision", "comment")
    PATHS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    paths: _containers.RepeatedScalarFieldContainer[str]
    revision: int
    comment: str
    def __init__(self, paths: _Optional[_Iterable[str]] = ..., revision: _Optional[int] = ..., comment: _Optional[str] = ...) -> None: ...

class ResetPoliciesResponse(_message.Message):
    __slots__ = ("revision", "differences")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    revision: int
    differences: _containers.RepeatedCompositeFieldContainer[PolicyDifference]
    def __init__(self, revision: _Optional[int] = ..., differences: _Optional[_Iterable[_Union[PolicyDifference, _Mapping[str, _Any]]]] = ...) -> None: ...

class PreviewAutomaticRevocationRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PreviewAutomaticRevocationResponse(_message.Message):
    __slots__ = ("rules",)
    RULES_FIELD_NUMBER: _ClassVar[int]
    rules: _containers.RepeatedCompositeFieldContainer[AutomaticRule]
    def __init__(self, rules: _Optional[_Iterable[_Union[AutomaticRule, _Mapping[str, _Any]]]] = ...) -> None: ...

class AutomaticRule(_message.Message):
    __slots__ = ("rule", "cause", "limit", "revokes", "targets", "accuracy", "dry_run")
    RULE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REVOKES_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    rule: str
    cause: str
    limit: str
    revokes: str
    targets: int
    accuracy: _session_service_pb2.CountAccuracy
    dry_run: bool
    def __init__(self, rule: _Optional[str] = ..., cause: _Optional[str] = ..., limit: _Optional[str] = ..., revokes: _Optional[str] = ..., targets: _Optional[int] = ..., accuracy: _Optional[_Union[_session_service_pb2.CountAccuracy, str]] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class ExportSubjectRequest(_message.Message):
    __slots__ = ("subject", "page_token", "comment")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    subject: str
    page_token: str
    comment: str
    def __init__(self, subject: _Optional[str] = ..., page_token: _Optional[str] = ..., comment: _Optional[str] = ...) -> None: ...

class ExportSubjectResponse(_message.Message):
    __slots__ = ("records", "next_page_token", "schema_version")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[SubjectRecord]
    next_page_token: str
    schema_version: int
    def __init__(self, records: _Optional[_Iterable[_Union[SubjectRecord, _Mapping[str, _Any]]]] = ..., next_page_token: _Optional[str] = ..., schema_version: _Optional[int] = ...) -> None: ...

class SubjectRecord(_message.Message):
    __slots__ = ("section", "record")
    SECTION_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    section: str
    record: _struct_pb2.Struct
    def __init__(self, section: _Optional[str] = ..., record: _Optional[_Union[_struct_pb2.Struct, _Mapping[str, _Any]]] = ...) -> None: ...

class EraseSubjectRequest(_message.Message):
    __slots__ = ("subject", "page_token", "comment", "dry_run")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    subject: str
    page_token: str
    comment: str
    dry_run: bool
    def __init__(self, subject: _Optional[str] = ..., page_token: _Optional[str] = ..., comment: _Optional[str] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class EraseSubjectResponse(_message.Message):
    __slots__ = ("sessions", "events", "device_requests", "pending_logouts", "next_page_token")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PENDING_LOGOUTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sessions: int
    events: int
    device_requests: int
    pending_logouts: int
    next_page_token: str
    def __init__(self, sessions: _Optional[int] = ..., events: _Optional[int] = ..., device_requests: _Optional[int] = ..., pending_logouts: _Optional[int] = ..., next_page_token: _Optional[str] = ...) -> None: ...
