import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import Any as _Any, ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AuditActor(_message.Message):
    __slots__ = ("kind", "name", "client_id", "on_behalf_of", "proof")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    ON_BEHALF_OF_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    client_id: str
    on_behalf_of: str
    proof: str
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., client_id: _Optional[str] = ..., on_behalf_of: _Optional[str] = ..., proof: _Optional[str] = ...) -> None: ...

class AuditTarget(_message.Message):
    __slots__ = ("kind", "id", "subject", "session_id", "client_id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    kind: str
    id: str
    subject: str
    session_id: str
    client_id: str
    def __init__(self, kind: _Optional[str] = ..., id: _Optional[str] = ..., subject: _Optional[str] = ..., session_id: _Optional[str] = ..., client_id: _Optional[str] = ...) -> None: ...

class AuditEvent(_message.Message):
    __slots__ = ("chain_id", "position", "time", "action", "category", "actor", "target", "outcome", "reason", "comment", "ip_address", "user_agent", "fields", "erased")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    IP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    USER_AGENT_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    chain_id: str
    position: int
    time: _timestamp_pb2.Timestamp
    action: str
    category: str
    actor: AuditActor
    target: AuditTarget
    outcome: str
    reason: str
    comment: str
    ip_address: str
    user_agent: str
    fields: _struct_pb2.Struct
    erased: bool
    def __init__(self, chain_id: _Optional[str] = ..., position: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., action: _Optional[str] = ..., category: _Optional[str] = ..., actor: _Optional[_Union[AuditActor, _Mapping[str, _Any]]] = ..., target: _Optional[_Union[AuditTarget, _Mapping[str, _Any]]] = ..., outcome: _Optional[str] = ..., reason: _Optional[str] = ..., comment: _Optional[str] = ..., ip_address: _Optional[str] = ..., user_agent: _Optional[str] = ..., fields: _Optional[_Union[_struct_pb2.Struct, _Mapping[str, _Any]]] = ..., erased: _Optional[bool] = ...) -> None: ...

class ListAuditEventsRequest(_message.Message):
    __slots__ = ("actor", "subject", "session_id", "client_id", "actions", "since", "until", "page_size", "page_token")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    actor: str
    subject: str
    session_id: str
    client_id: str
    actions: _containers.RepeatedScalarFieldContainer[str]
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    def __init__(self, actor: _Optional[str] = ..., subject: _Optional[str] = ..., session_id: _Optional[str] = ..., client_id: _Optional[str] = ..., actions: _Optional[_Iterable[str]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAuditEventsResponse(_message.Message):
    __slots__ = ("events", "next_page_token")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[AuditEvent]
    next_page_token: str
    def __init__(self, events: _Optional[_Iterable[_Union[AuditEvent, _Mapping[str, _Any]]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class VerifyAuditTrailRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuditFinding(_message.Message):
    __slots__ = ("place", "problem")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    place: str
    problem: str
    def __init__(self, place: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...

class VerifyAuditTrailResponse(_message.Message):
    __slots__ = ("intact", "events", "chains", "checkpoints", "erased", "findings")
    INTACT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    CHAINS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    intact: bool
    events: int
    chains: int
    checkpoints: int
    erased: int
    findings: _containers.RepeatedCompositeFieldContainer[AuditFinding]
    def __init__(self, intact: _Optional[bool] = ..., events: _Optional[int] = ..., chains: _Optional[int] = ..., checkpoints: _Optional[int] = ..., erased: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[AuditFinding, _Mapping[str, _Any]]]] = ...) -> None: ...

class ExplainRevocationRequest(_message.Message):
    __slots__ = ("session_id", "subject", "client_id", "token_id", "key_id", "everything")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    subject: str
    client_id: str
    token_id: str
    key_id: str
    everything: bool
    def __init__(self, session_id: _Optional[str] = ..., subject: _Optional[str] = ..., client_id: _Optional[str] = ..., token_id: _Optional[str] = ..., key_id: _Optional[str] = ..., everything: _Optional[bool] = ...) -> None: ...

class RevocationArrival(_message.Message):
    __slots__ = ("subscriber", "time", "client_version", "validated", "refusals")
    class RefusalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SUBSCRIBER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    VALIDATED_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    subscriber: str
    time: _timestamp_pb2.Timestamp
    client_version: str
    validated: int
    refusals: _containers.ScalarMap[str, int]
    def __init__(self, subscriber: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, _Any]]] = ..., client_version: _Optional[str] = ..., validated: _Optional[int] = ..., refusals: _Optional[_Mapping[str, int]] = ...) -> None: ...

class RevocationExplanation(_message.Message):
    __slots__ = ("event", "arrivals")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    ARRIVALS_FIELD_NUMBER: _ClassVar[int]
    event: AuditEvent
    arrivals: _containers.RepeatedCompositeFieldContainer[RevocationArrival]
    def __init__(self, event: _Optional[_Union[AuditEvent, _Mapping[str, _Any]]] = ..., arrivals: _Optional[_Iterable[_Union[RevocationArrival, _Mapping[str, _Any]]]] = ...) -> None: ...

class ExplainRevocationResponse(_message.Message):
    __slots__ = ("explanations",)
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    explanations: _containers.RepeatedCompositeFieldContainer[RevocationExplanation]
    def __init__(self, explanations: _Optional[_Iterable[_Union[RevocationExplanation, _Mapping[str, _Any]]]] = ...) -> None: ...
