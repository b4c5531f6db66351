"""A name chosen by a caller can't hide itself, another field or the rest of an audit line."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterator
from uuid import UUID

import pytest

from token_service.core.clients.client_secret import new_secret
from token_service.core.events.event import Action, Actor, AuditEvent
from token_service.telemetry import Audit, configure_logging
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import MacKeys, OpaqueToken
from token_service.tokens.secret import Secret

JWT = "eyJhbGciOiJSUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl_-"
REFRESH = OpaqueToken(TokenKind.REFRESH, 1, UUID(int=7), 0, Secret(b"s" * 32)).format(
    MacKeys({1: Secret(b"k" * 32)}, 1)
)

PERSONAL = OpaqueToken(TokenKind.PERSONAL_ACCESS, 1, UUID(int=7), 0, Secret(b"s" * 32)).format(
    MacKeys({1: Secret(b"k" * 32)}, 1)
)

CLIENT_SECRET = new_secret(lambda size: bytes(range(size)), 0.0)[0].reveal().decode()

NAMES = [
    "mallory",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----\\n",
    "eyJhbGciOiJSUzI1NiJ9.mallory",
    "eyJmallory_mallory",
    "rt_mallory_mallory_mallory",
    "eyJ" + "Zz9_-xQ7" * 5,  # the length of a key id
    "rt_" + "A" * 40,
    "tscs_mallory",
    "tscs_" + "A" * 38,
    "tspat_mallory",
    "x client_id=admin session_id=1",
    'x" client_id="admin',
    "a'b=c",
    "back\\slash\\n",
    "x://u:p@h",
    "postgresql://me:secret@host/",
    "a,b",
    "é中\U0001f600",
    "",
    " ",
    "\\u202e",
    "[token sha256:00]",
]
INVISIBLE = [
    "a\nb", "a\rb", "a\tb", "a\0b", "a\x1b[31mb", "a\x7fb", "a\x85b", "a\x9bb", "a\xa0b", "a\xadb", "a\u034fb",
    "a\u061cb", "a\u115fb", "a\u200bb", "a\u200fb", "a\u2028b", "a\u202eb", "a\u2066b", "a\u2800b", "\u3000x",
    "a\u3164b", "a\ufe0fb", "a\ufeffb", "a\uffa0b", "a\ud800b", "a\U000e0041b", "a\U000e0100b", "a\ue000b",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises


def logged(*, as_json: bool, **fields: object) -> str:
    log = io.StringIO()
    configure_logging("info", as_json=as_json, stream=log)
    Audit().record(AuditEvent(action=Action.LOG_RENEWED, actor=Actor.system("test"), fields=fields))
    (line,) = log.getvalue().split("\n")[:-1]
    return line


def field_of(line: str, name: str) -> object:
    """Return the value of a field in a line of text: a bare word or JSON."""
    rest = line[line.index(f" log.renewed {name}=") + len(f" log.renewed {name}=") :]
    if rest.startswith('"'):
        value, end = json.JSONDecoder(strict=True).raw_decode(rest)
        assert rest[end:] == " last=1 actor=system:test outcome=success"
        return value
    word, _, after = rest.partition(" ")
    assert after == "last=1 actor=system:test outcome=success"
    return word


@pytest.mark.parametrize("name", NAMES + INVISIBLE)
def test_name_in_text_line_reads_back_unchanged(name: str) -> None:
    line = logged(as_json=False, subject=name, last=1)
    assert field_of(line, "subject") == name
    assert line.isprintable()


@pytest.mark.parametrize("name", NAMES + INVISIBLE)
def test_name_in_json_line_reads_back_unchanged(name: str) -> None:
    line = logged(as_json=True, subject=name, last=1)
    assert line.isascii()
    assert line.isprintable()
    event = json.loads(line)
    assert event["subject"] == name
    assert event["last"] == 1


@pytest.mark.parametrize("name", INVISIBLE)
def test_invisible_characters_are_not_written(name: str) -> None:
    (character,) = set(name) - set("ab[31mx")
    assert character not in logged(as_json=False, subject=name, last=1).partition(" event ")[2].replace(
        " ", ""
    )
    assert character not in logged(as_json=False, last=name)


def test_commas_in_list_items_are_quoted() -> None:
    line = logged(as_json=False, a=["x", "y"], b=["x,y"], c=[])
    assert line.endswith(' log.renewed a=x,y b="x,y" c="" actor=system:test outcome=success')


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "token",
    [
        JWT,
        JWT[:60],
        JWT.rpartition(".")[0],
        JWT.partition(".")[0],
        REFRESH,
        REFRESH[:60],
        PERSONAL,
        PERSONAL[:60],
        CLIENT_SECRET,
        CLIENT_SECRET[:50],
        CLIENT_SECRET[:-1],
    ],
)
@pytest.mark.parametrize(
    "frame", ["{}", "see {} please", "Bearer {}", "https://host/?t={}&x", "'{}'", '{{"t":"{}"}}']
)
def test_token_in_a_field_is_shown_as_its_hash(token: str, frame: str, *, as_json: bool) -> None:
    line = logged(as_json=as_json, comment=frame.format(token), last=1)
    shown = frame.format(f"[token sha256:{hashlib.sha256(token.encode()).hexdigest()}]")
    found = json.loads(line)["comment"] if as_json else field_of(line, "comment")
    assert found == shown
    assert token[10:24] not in line


@pytest.mark.parametrize("as_json", [False, True])
def test_long_value_is_cut_with_the_omitted_length(*, as_json: bool) -> None:
    line = logged(as_json=as_json, comment="ab" * 512 + "c" * 300, last=1)
    if as_json:
        assert json.loads(line)["comment"] == "ab" * 512 + "[300 more]"
    else:
        end = f' log.renewed comment="{"ab" * 512}"[300 more] last=1 actor=system:test outcome=success'
        assert line.endswith(end)


def test_redaction_of_message_does_not_reach_into_fields() -> None:
    log = io.StringIO()
    configure_logging("info", as_json=False, stream=log)
    logging.getLogger("library").warning(
        "-----BEGIN PRIVATE KEY-----\nMII", extra={"fields": {"subject": "-----END", "client_id": "mallory"}}
    )
    assert log.getvalue().endswith(" library [PRIVATE KEY] subject=-----END client_id=mallory\n")
