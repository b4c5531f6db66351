"""Client secrets."""

from __future__ import annotations

import hashlib
import random
import re

import pytest
from msgspec import structs

from token_service.core.clients.client import Client
from token_service.core.clients.client_secret import is_well_formed, matching_secret, new_secret
from token_service.telemetry.redaction import redact
from token_service.tokens.secret import Secret

NOW = 1_800_000_000.0


def a_client(*secrets: object) -> Client:
    return Client(client_id="web", create_time=NOW, update_time=NOW, secrets=secrets)  # type: ignore[arg-type]


def test_text_has_256_random_bits_prefix_and_checksum() -> None:
    asked: list[int] = []
    source = random.Random(1)

    def entropy(count: int) -> bytes:
        asked.append(count)
        return source.randbytes(count)

    text, at_rest = new_secret(entropy, NOW, NOW + 5)
    assert asked[0] == 32
    assert re.fullmatch(rb"tscs_[A-Za-z0-9_-]{49}", text.reveal())
    assert at_rest.hash == hashlib.sha256(text.reveal()).digest()
    assert (at_rest.create_time, at_rest.expire_time, at_rest.last_use_time) == (NOW, NOW + 5, None)
    assert at_rest.secret_id.encode() not in text.reveal()
    assert text.reveal().decode() not in f"{text!r} {text} {at_rest!r}"


def test_mistyped_text_is_recognized_by_its_checksum() -> None:
    text = new_secret(random.Random(1).randbytes, NOW)[0].reveal()
    assert is_well_formed(Secret(text))
    for position in range(len(text)):
        other = text[:position] + (b"A" if text[position] != 65 else b"B") + text[position + 1 :]
        assert not is_well_formed(Secret(other)), position
    for other in (b"", text[:-1], text + b"A", text + b"\n", text.decode().encode("utf-16")):
        assert not is_well_formed(Secret(other))


def test_only_live_secret_of_the_client_matches() -> None:
    entropy = random.Random(1).randbytes
    (old, old_at_rest), (new, new_at_rest), (foreign, _) = (new_secret(entropy, NOW) for _ in range(3))
    client = a_client(structs.replace(old_at_rest, expire_time=NOW + 10), new_at_rest)
    assert matching_secret(client, old, NOW + 9.9) == client.secrets[0]
    assert matching_secret(client, old, NOW + 10) is None
    assert matching_secret(client, new, NOW + 10) == new_at_rest
    assert matching_secret(client, foreign, NOW) is None
    assert matching_secret(client, Secret(new_at_rest.hash), NOW) is None
    assert matching_secret(a_client(), new, NOW) is None


@pytest.mark.parametrize("frame", ["{}", "secret={}", "Basic web:{}", '{{"client_secret":"{}"}}'])
def test_secret_is_redacted_in_logs(frame: str) -> None:
    text = new_secret(random.Random(1).randbytes, NOW)[0].reveal().decode()
    assert redact(frame.format(text)) == frame.format("tscs_[SECRET]")
