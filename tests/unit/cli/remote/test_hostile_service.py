"""Commands at a service whose every text has characters that a terminal would interpret."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.support.command_service import CommandService
from tests.unit.cli.remote.conftest import Run
from token_service.errors import InvalidRequestError
from token_service.v1 import (
    admin_service_pb2,
    audit_service_pb2,
    client_service_pb2,
    key_service_pb2,
    session_service_pb2,
    token_service_pb2,
)

HOSTILE = "\x1b]0;title\x07\x1b[2J\u202e\x9b31m\r\nFORGED line\x7f\u2028"
SESSION = "0b6f3c0e-0000-4000-8000-000000000001"
COMMANDS = (
    "overview",
    "nodes",
    "subscribers",
    "revocations list",
    "sessions list --subject a",
    f"sessions get {SESSION}",
    "sessions count --subject a",
    "sessions revoke --subject a --yes",
    "sessions revoke --subject a --dry-run",
    "tokens issue --subject a --client-id b",
    "tokens validate token",
    "tokens refresh token --client-id a",
    "tokens revoke --subject a",
    "tokens revoke --subject a --dry-run",
    "tokens revoke --subject a --wait 1s",
    "clients list",
    "clients get a",
    "clients create --client-id a",
    "clients rotate-secret a",
    "clients disable a",
    "clients enable a",
    "keys list",
    "keys prepare",
    "keys activate a",
    "keys retire a",
    "keys retire a --dry-run",
    "keys revoke a",
    "audit list",
    "audit verify",
    "policies list",
    "policies get --client a",
    "policies set a.b=1",
    "policies diff a.b=1",
    "policies reset --all",
    "config",
    "explain-revocation --subject a",
    "access explain --caller x --call RevokeToken",
)
MODULES = (
    admin_service_pb2,
    audit_service_pb2,
    client_service_pb2,
    key_service_pb2,
    session_service_pb2,
    token_service_pb2,
)


def fill(message: Message) -> Message:
    """Set every text of a message to `HOSTILE`, and most other fields."""
    for field in message.DESCRIPTOR.fields:
        if field.name == "next_page_token":
            continue
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            _fill_message(message, field)
        else:
            value = _VALUES.get(field.type, 3)
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


_VALUES: dict[int, Any] = {
    FieldDescriptor.TYPE_STRING: HOSTILE,
    FieldDescriptor.TYPE_BYTES: HOSTILE.encode(),
    FieldDescriptor.TYPE_BOOL: True,
    FieldDescriptor.TYPE_ENUM: 1,
}


def _fill_message(message: Message, field: Any) -> None:
    kind = field.message_type
    assert kind is not None
    if kind.GetOptions().map_entry:
        if kind.fields_by_name["value"].type != FieldDescriptor.TYPE_MESSAGE:
            getattr(message, field.name)[HOSTILE] = _VALUES.get(kind.fields_by_name["value"].type, 3)
    elif kind.full_name in {"google.protobuf.Timestamp", "google.protobuf.Duration"}:
        getattr(message, field.name).seconds = 5
    elif kind.full_name == "google.protobuf.Struct":
        getattr(message, field.name).update({HOSTILE: HOSTILE})
    else:
        fill(getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name))


@pytest.fixture
def hostile(service: CommandService) -> CommandService:
    for module in MODULES:
        for described in module.DESCRIPTOR.services_by_name.values():
            for method in described.methods:
                made = fill(_message(method.output_type))
                service.answers[method.name] = made
    return service


def _message(descriptor: Any) -> Message:
    from google.protobuf.message_factory import GetMessageClass

    made: Message = GetMessageClass(descriptor)()
    return made


def shown(text: str) -> set[str]:
    """Return what a terminal would interpret."""
    return {each for each in text if not each.isprintable() and each != "\n"} | (
        {"a forged line"} if "\nFORGED" in text else set()
    )


@pytest.mark.parametrize("output", [(), ("-o", "json")], ids=["default", "json"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_text_of_the_service_reaches_the_terminal(
    run: Run, hostile: CommandService, command: str, output: tuple[str, ...]
) -> None:
    if command in {"audit verify", "keys revoke a"} and output:
        output = ()  # they have one form
    result = run(*command.split(), *output)
    assert hostile.requests
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code != 2, result.output
    assert shown(result.output) == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_text_of_an_error_reaches_the_terminal(run: Run, hostile: CommandService, command: str) -> None:
    hostile.answers = dict.fromkeys(hostile.answers, InvalidRequestError.of("field", HOSTILE))
    result = run(*command.split())
    assert hostile.requests
    assert result.exit_code != 2, result.output
    assert shown(result.output) == set()
