from __future__ import annotations

import pytest

from token_service.client._internal.server_nonces import ServerNonces


def test_newest_nonce_of_each_server_is_kept() -> None:
    nonces = ServerNonces()
    assert nonces.get("https://a.example") is None
    nonces.put("https://a.example", "one")
    nonces.put("https://b.example", "other")
    nonces.put("https://a.example", "two")
    nonces.put("https://a.example", None)
    assert nonces.get("https://a.example") == "two"
    assert nonces.get("https://b.example") == "other"


def test_servers_that_gave_a_nonce_last_are_kept() -> None:
    nonces = ServerNonces(capacity=2)
    for server in ("a", "b", "a", "c"):
        nonces.put(server, f"of {server}".replace(" ", "-"))
    nonces.put("a", "newer")
    nonces.put("d", "of-d")
    assert [nonces.get(server) for server in "abcd"] == ["newer", None, None, "of-d"]


@pytest.mark.parametrize("nonce", ["", "a b", 'a"b', "a\\b", "ä", "a\n", "x" * 1025])
def test_malformed_nonce_is_ignored(nonce: str) -> None:
    nonces = ServerNonces()
    nonces.put("a", "good")
    nonces.put("a", nonce)
    assert nonces.get("a") == "good"
