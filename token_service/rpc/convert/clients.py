"""Conversion of clients between their messages and the core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from token_service.core.clients.client import (
    METADATA_FIELDS,
    AuthMethod,
    Client,
    ClientMetadata,
    ClientSecret,
    ClientState,
    SecurityProfile,
    SubjectType,
)
from token_service.core.limits import Checks
from token_service.core.policies.rights import Right, parse_rights
from token_service.errors import ConfigurationError
from token_service.rpc.convert.rights import right_message
from token_service.rpc.convert.values import seconds_of_duration, set_timestamp
from token_service.v1 import client_service_pb2 as pb

_METHODS: Final = {
    pb.TOKEN_ENDPOINT_AUTH_METHOD_UNSPECIFIED: AuthMethod.NONE,
    pb.TOKEN_ENDPOINT_AUTH_METHOD_NONE: AuthMethod.NONE,
    pb.TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC: AuthMethod.CLIENT_SECRET_BASIC,
    pb.TOKEN_ENDPOINT_AUTH_METHOD_PRIVATE_KEY_JWT: AuthMethod.PRIVATE_KEY_JWT,
    pb.TOKEN_ENDPOINT_AUTH_METHOD_TLS_CLIENT_AUTH: AuthMethod.TLS_CLIENT_AUTH,
}
_METHOD_NUMBERS: Final = {method: number for number, method in _METHODS.items() if number}
_SUBJECT_TYPES: Final = {
    pb.SUBJECT_TYPE_UNSPECIFIED: SubjectType.PUBLIC,
    pb.SUBJECT_TYPE_PUBLIC: SubjectType.PUBLIC,
    pb.SUBJECT_TYPE_PAIRWISE: SubjectType.PAIRWISE,
}
_SUBJECT_TYPE_NUMBERS: Final = {kind: number for number, kind in _SUBJECT_TYPES.items() if number}
_PROFILES: Final = {
    pb.SECURITY_PROFILE_UNSPECIFIED: SecurityProfile.NONE,
    pb.SECURITY_PROFILE_NONE: SecurityProfile.NONE,
    pb.SECURITY_PROFILE_FAPI2: SecurityProfile.FAPI2,
}
_PROFILE_NUMBERS: Final = {profile: number for number, profile in _PROFILES.items() if number}
_STATES: Final = {
    ClientState.ACTIVE: pb.CLIENT_STATE_ACTIVE,
    ClientState.DISABLED: pb.CLIENT_STATE_DISABLED,
}
_STATE_OF: Final = {number: state for state, number in _STATES.items()}
_BOUNDS: Final = ("clients", "audiences", "scopes", "token_types", "may")
_LISTS: Final = frozenset(
    name for name in METADATA_FIELDS if isinstance(getattr(ClientMetadata(), name), tuple)
)


def client_metadata(request: pb.CreateClientRequest) -> ClientMetadata:
    """Return the settings in a request. Raises `InvalidRequestError`."""
    checks = Checks()
    _require(request, "client", checks)
    values = {name: _value(request.client, name, checks) for name in METADATA_FIELDS}
    checks.done()
    return ClientMetadata(**values)


def client_changes(request: pb.UpdateClientRequest) -> dict[str, Any]:
    """Return the new values of the settings in the mask; None for a name that is no setting.

    Raises `InvalidRequestError`.
    """
    checks = Checks()
    _require(request, "client", checks)
    if not request.update_mask.paths:
        checks.add("update_mask", "is required: name the fields to change")
    changes = {
        name: _value(request.client, name, checks) if name in METADATA_FIELDS else None
        for name in request.update_mask.paths
    }
    checks.done()
    return changes


def _require(request: Message, field: str, checks: Checks) -> None:
    if not request.HasField(field):
        checks.add(field, "is required")


def optional_seconds(request: Message, field: str) -> float | None:
    """Return the seconds in a Duration field; None if it is unset. Raises `InvalidRequestError`."""
    if not request.HasField(field):
        return None
    checks = Checks()
    value: Duration = getattr(request, field)
    seconds = seconds_of_duration(value, field, checks)
    checks.done()
    return seconds


def client_message(client: Client) -> pb.Client:
    """Return the message of a client."""
    values = {name: getattr(client, name) for name in METADATA_FIELDS}
    values["rights"] = list(map(right_message, client.rights))
    values["token_endpoint_auth_method"] = _METHOD_NUMBERS[client.token_endpoint_auth_method]
    values["subject_type"] = _SUBJECT_TYPE_NUMBERS[client.subject_type]
    values["security_profile"] = _PROFILE_NUMBERS[client.security_profile]
    message = pb.Client(
        client_id=client.client_id,
        state=_STATES[client.state],
        secrets=map(_secret_message, client.secrets),
        etag=client.etag,
        **values,
    )
    set_timestamp(message.create_time, client.create_time)
    set_timestamp(message.update_time, client.update_time)
    return message


def _secret_message(secret: ClientSecret) -> pb.ClientSecret:
    message = pb.ClientSecret(secret_id=secret.secret_id)
    set_timestamp(message.create_time, secret.create_time)
    if secret.expire_time is not None:
        set_timestamp(message.expire_time, secret.expire_time)
    if secret.last_use_time is not None:
        set_timestamp(message.last_use_time, secret.last_use_time)
    return message


def client_of(message: pb.Client) -> Client:
    """Return the client in a message of a service, without the hashes of its secrets. Raises `InvalidRequestError`."""
    checks = Checks()
    values = {name: _value(message, name, checks) for name in METADATA_FIELDS}
    checks.done()
    return Client(
        client_id=message.client_id,
        state=_STATE_OF.get(message.state, ClientState.ACTIVE),
        secrets=tuple(map(_secret_of, message.secrets)),
        create_time=message.create_time.ToMicroseconds() / 1_000_000,
        update_time=message.update_time.ToMicroseconds() / 1_000_000,
        revision=int(message.etag) if message.etag.isdecimal() else 0,
        **values,
    )


def _secret_of(message: pb.ClientSecret) -> ClientSecret:
    def seconds(field: Literal["expire_time", "last_use_time"]) -> float | None:
        return getattr(message, field).ToMicroseconds() / 1_000_000 if message.HasField(field) else None

    return ClientSecret(
        secret_id=message.secret_id,
        hash=b"",
        create_time=message.create_time.ToMicroseconds() / 1_000_000,
        expire_time=seconds("expire_time"),
        last_use_time=seconds("last_use_time"),
    )


def _rights(messages: Sequence[pb.Right], checks: Checks) -> tuple[Right, ...]:
    try:
        return parse_rights([_table(message) for message in messages])
    except ConfigurationError as error:
        checks.add("rights", error.message)
        return ()


def _table(message: pb.Right) -> dict[str, Any]:
    """Return a right as in a policy file."""
    table: dict[str, Any] = {"permission": message.permission}
    for name in _BOUNDS:
        if patterns := getattr(message, name):
            table[name] = list(patterns)
    if message.unbounded:
        table["unbounded"] = True
    return table


def _value(message: pb.Client, name: str, checks: Checks) -> Any:
    value = getattr(message, name)
    if name == "rights":
        return _rights(value, checks)
    if name == "token_endpoint_auth_method":
        if value not in _METHODS:
            checks.add(name, "is none of NONE, CLIENT_SECRET_BASIC, PRIVATE_KEY_JWT, TLS_CLIENT_AUTH")
        return _METHODS.get(value, AuthMethod.NONE)
    if name == "subject_type":
        if value not in _SUBJECT_TYPES:
            checks.add(name, "is none of PUBLIC, PAIRWISE")
        return _SUBJECT_TYPES.get(value, SubjectType.PUBLIC)
    if name == "security_profile":
        if value not in _PROFILES:
            checks.add(name, "is none of NONE, FAPI2")
        return _PROFILES.get(value, SecurityProfile.NONE)
    return tuple(value) if name in _LISTS else value
