from __future__ import annotations

import base64

import pytest

from token_service.core.page_tokens import format_page_token, parse_page_token, text_id


def invented(micros: int, row_id: bytes) -> str:
    return base64.urlsafe_b64encode(micros.to_bytes(8) + row_id).rstrip(b"=").decode()


def test_position_survives_its_token_to_the_microsecond() -> None:
    token = format_page_token(1_796_000_000.123456, "größe".encode())
    micros, row_id = parse_page_token(token)
    assert (micros, text_id(row_id)) == (1_796_000_000_123_456, "größe")


@pytest.mark.parametrize("token", ["x", "é", invented(1, b""), invented(2**63, b"a"), "="])
def test_invented_token_is_refused(token: str) -> None:
    with pytest.raises(ValueError):
        parse_page_token(token)


@pytest.mark.parametrize("row_id", [b"a\0b", b"\xff"])
def test_id_that_is_no_text_for_a_database_is_refused(row_id: bytes) -> None:
    with pytest.raises(ValueError):
        text_id(row_id)
