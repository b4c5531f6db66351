from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from token_service.errors import ConfigurationError
from token_service.signers.key_wrap import AesGcmKeyWrap, key_encryption_key_id
from token_service.tokens.secret import Secret

ONE = Secret(b"1" * 32)
TWO = Secret(b"2" * 32)
PRIVATE = Secret(b"the private key")


def test_wrapped_key_is_unwrapped_with_same_key_and_context() -> None:
    wrap = AesGcmKeyWrap([ONE])
    wrapped = wrap.wrap(PRIVATE, b"context")
    assert PRIVATE.reveal() not in wrapped
    assert wrap.unwrap(wrapped, b"context", wrap.key_id).reveal() == PRIVATE.reveal()
    assert wrap.wrap(PRIVATE, b"context") != wrapped


def test_format_is_as_documented() -> None:
    wrap = AesGcmKeyWrap([ONE], entropy=lambda count: b"n" * count)
    wrapped = wrap.wrap(PRIVATE, b"context")
    assert wrapped[:13] == b"\x01" + b"n" * 12
    bound = b"".join(
        len(part).to_bytes(4, "big") + part
        for part in (b"token_service key wrap 1", wrap.key_id.encode(), b"context")
    )
    assert AESGCM(ONE.reveal()).decrypt(b"n" * 12, wrapped[13:], bound) == PRIVATE.reveal()


def test_changed_bit_or_context_is_refused() -> None:
    wrap = AesGcmKeyWrap([ONE])
    wrapped = wrap.wrap(PRIVATE, b"context")
    broken = [bytes([*wrapped[:at], wrapped[at] ^ 1, *wrapped[at + 1 :]]) for at in range(len(wrapped))]
    for text in (*broken, b"", wrapped[:1], wrapped[:20], wrapped + b"\0"):
        with pytest.raises(ConfigurationError):
            wrap.unwrap(text, b"context", wrap.key_id)
    with pytest.raises(ConfigurationError, match="damaged or from another row"):
        wrap.unwrap(wrapped, b"another context", wrap.key_id)


def test_first_key_wraps_and_every_key_unwraps() -> None:
    old = AesGcmKeyWrap([ONE])
    new = AesGcmKeyWrap([TWO, ONE])
    wrapped = old.wrap(PRIVATE, b"")
    assert new.key_id != old.key_id
    assert new.unwrap(wrapped, b"", old.key_id).reveal() == PRIVATE.reveal()
    with pytest.raises(ConfigurationError, match="damaged or from another row"):
        new.unwrap(wrapped, b"", new.key_id)
    with pytest.raises(ConfigurationError, match=f"{new.key_id}.*configured keys are {old.key_id}"):
        old.unwrap(new.wrap(PRIVATE, b""), b"", new.key_id)


def test_key_encryption_key_id_is_stable() -> None:
    assert key_encryption_key_id(ONE) == key_encryption_key_id(Secret(b"1" * 32)) == "PB9ykDCU4ubEHCHz"
    assert key_encryption_key_id(ONE) != key_encryption_key_id(TWO)


@pytest.mark.parametrize("keys", [[], [Secret(b"short")], [ONE, Secret(b"3" * 16)]])
def test_key_encryption_keys_of_wrong_size_are_refused(keys: list[Secret]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        AesGcmKeyWrap(keys)


def test_repr_shows_no_key() -> None:
    assert "111" not in repr(AesGcmKeyWrap([ONE]))
