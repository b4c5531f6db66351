"""The keys of personal data, and the forms of values in each state of the encryption."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from token_service.core.personal_data.cipher import Kind, Place, UnknownDataKeyError
from token_service.core.personal_data.keys import (
    PLAIN,
    EncryptionState,
    KeyPurpose,
    StoredEncryption,
    new_keys,
    next_data_key,
    opened,
    rewrapped,
)
from token_service.errors import ConfigurationError
from token_service.signers.key_wrap import AesGcmKeyWrap
from token_service.tokens.secret import Secret

OLD, NEW = Secret(b"o" * 32), Secret(b"n" * 32)
WRAP = AesGcmKeyWrap([OLD])
KEYS = new_keys(WRAP, secrets.token_bytes, 5.0)


def a_copy(state, keys=KEYS, wrap=WRAP):
    return opened(StoredEncryption(state, 7, keys), wrap, secrets.token_bytes)


@pytest.mark.parametrize(
    ("state", "seals", "count"),
    [
        (EncryptionState.OFF, False, 1),
        (EncryptionState.ENCRYPTING, True, 2),
        (EncryptionState.ON, True, 1),
        (EncryptionState.DECRYPTING, False, 2),
    ],
)
def test_forms_of_a_value_in_each_state(state, seals, count):
    keys = a_copy(state)
    assert keys.cipher is not None
    index = keys.cipher.index(Kind.SUBJECT, "alice")
    assert (keys.sealing is keys.cipher, keys.sealing is None) == (seals, not seals)
    assert keys.stored(Kind.SUBJECT, "alice") == (index if seals else "alice")
    expected = {1: {index if seals else "alice"}, 2: {index, "alice"}}
    assert set(keys.forms(Kind.SUBJECT, "alice")) == expected[count]
    assert keys.stored(Kind.SUBJECT, "alice") in keys.forms(Kind.SUBJECT, "alice")


def test_database_that_was_never_encrypted():
    assert opened(StoredEncryption(EncryptionState.OFF, 0, []), None, secrets.token_bytes) == PLAIN
    assert PLAIN.forms(Kind.SUBJECT, "alice") == ("alice",)
    with pytest.raises(UnknownDataKeyError):
        PLAIN.opening()


def test_rewrapped_keys_open_with_the_new_key_alone():
    sealed = a_copy(EncryptionState.ON).opening().seal(Place.SESSION, b"row", b"alice")
    both, new = AesGcmKeyWrap([NEW, OLD]), AesGcmKeyWrap([NEW])
    keys = [found for key in KEYS if (found := rewrapped(key, both)) is not None]
    assert len(keys) == 2
    assert all(rewrapped(key, both) is None for key in keys)
    copy = a_copy(EncryptionState.ON, keys, new)
    assert copy.opening().open(Place.SESSION, b"row", sealed) == b"alice"


def test_wrong_key_encryption_key_is_named():
    with pytest.raises(ConfigurationError, match=f"{WRAP.key_id}.*TOKEN_SERVICE_KEY_ENCRYPTION_KEY"):
        a_copy(EncryptionState.ON, wrap=AesGcmKeyWrap([NEW]))


def test_wrapped_key_works_only_for_its_version_and_purpose():
    index, data = KEYS
    for changed in (replace(data, version=3), replace(data, wrapped=index.wrapped)):
        with pytest.raises(ConfigurationError, match="damaged or from another row"):
            a_copy(EncryptionState.ON, [index, changed])


@pytest.mark.parametrize("keys", [[], KEYS[:1], KEYS[1:]])
def test_missing_keys_are_an_error(keys):
    with pytest.raises(ConfigurationError, match="restore the table personal_data_keys"):
        a_copy(EncryptionState.ON, keys)


def test_next_data_key_follows_the_last_version():
    key = next_data_key(KEYS, WRAP, secrets.token_bytes, 6.0)
    assert (key.version, key.purpose) == (3, KeyPurpose.DATA)
    assert a_copy(EncryptionState.ON, [*KEYS, key]).opening().version == 3
