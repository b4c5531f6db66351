"""Tokens as JSON, for stores."""

from __future__ import annotations

import msgspec

from token_service.client._internal.token_store import Tokens

_decoder = msgspec.json.Decoder(Tokens)
_encoder = msgspec.json.Encoder()


def encode_tokens(tokens: Tokens) -> bytes:
    """Return the JSON object of tokens."""
    return _encoder.encode(tokens)


def decode_tokens(data: bytes | str) -> Tokens:
    """Return the tokens in a JSON object. Raises `ValueError`, whose message has no part of the tokens."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError):
        raise ValueError("not the JSON of stored tokens") from None
