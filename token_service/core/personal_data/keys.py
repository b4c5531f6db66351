"""The keys of personal data at rest, and the state of the encryption of a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from token_service.core.entropy import Entropy
from token_service.core.keys.key_wrap import KeyWrap
from token_service.core.personal_data.cipher import KEY_BYTES, Kind, PersonalCipher, UnknownDataKeyError
from token_service.errors import ConfigurationError
from token_service.tokens.secret import Secret


class EncryptionState(IntEnum):
    """Whether the personal data of a database is encrypted, as the database itself says."""

    OFF = 0
    ENCRYPTING = 1
    """New values are sealed; older ones are not all sealed yet."""
    ON = 2
    DECRYPTING = 3
    """New values are plain; older ones are not all plain yet."""

    @property
    def seals(self) -> bool:
        """Whether new values are sealed."""
        return self in (EncryptionState.ENCRYPTING, EncryptionState.ON)

    @property
    def is_changing(self) -> bool:
        """Whether the database holds sealed and plain values."""
        return self in (EncryptionState.ENCRYPTING, EncryptionState.DECRYPTING)


class KeyPurpose(StrEnum):
    """The use of a key."""

    DATA = "data"
    INDEX = "index"
    """The key of the blind indexes. It never changes, because the indexes would."""


@dataclass(frozen=True, slots=True)
class StoredPersonalKey:
    """A wrapped key of personal data."""

    version: int
    purpose: KeyPurpose
    wrapped: bytes
    wrapping_key_id: str
    create_time: float


@dataclass(frozen=True, slots=True)
class StoredEncryption:
    """The stored state and keys, read at once."""

    state: EncryptionState
    revision: int
    """It is raised by each change of the state and by each new key."""
    keys: Sequence[StoredPersonalKey]


@dataclass(frozen=True, slots=True)
class PersonalKeys:
    """A process's copy of the state and the keys."""

    state: EncryptionState
    revision: int
    cipher: PersonalCipher | None
    """None: no value was ever sealed."""

    @property
    def sealing(self) -> PersonalCipher | None:
        """The cipher of new values; None: they are stored plain."""
        return self.cipher if self.state.seals else None

    def opening(self) -> PersonalCipher:
        """Return the cipher of a sealed value. Raises `UnknownDataKeyError` if this process has none."""
        if self.cipher is None:
            raise UnknownDataKeyError(_FIRST_DATA_KEY)
        return self.cipher

    def stored(self, kind: Kind, value: str) -> str:
        """Return the text that a new row holds for a value that is looked up."""
        cipher = self.sealing
        return value if cipher is None else cipher.index(kind, value)

    def forms(self, kind: Kind, value: str) -> Sequence[str]:
        """Return the texts that a row may hold for a value that is looked up."""
        if self.cipher is None or self.state is EncryptionState.OFF:
            return (value,)
        index = self.cipher.index(kind, value)
        return (index,) if self.state is EncryptionState.ON else (index, value)


_INDEX_KEY: Final = 1
_FIRST_DATA_KEY: Final = 2
PLAIN: Final = PersonalKeys(EncryptionState.OFF, 0, None)
"""The copy of a database whose personal data was never encrypted."""


def new_keys(wrap: KeyWrap, entropy: Entropy, now: float) -> Sequence[StoredPersonalKey]:
    """Make the first keys of a database."""
    return (
        _new_key(_INDEX_KEY, KeyPurpose.INDEX, wrap, entropy, now),
        _new_key(_FIRST_DATA_KEY, KeyPurpose.DATA, wrap, entropy, now),
    )


def next_data_key(
    stored: Sequence[StoredPersonalKey], wrap: KeyWrap, entropy: Entropy, now: float
) -> StoredPersonalKey:
    """Make the data key that follows the stored ones."""
    return _new_key(max(key.version for key in stored) + 1, KeyPurpose.DATA, wrap, entropy, now)


def rewrapped(key: StoredPersonalKey, wrap: KeyWrap) -> StoredPersonalKey | None:
    """Return a key wrapped with the current key-encryption key; None: it is already. Raises `ConfigurationError`."""
    if key.wrapping_key_id == wrap.key_id:
        return None
    context = _context(key.version, key.purpose)
    wrapped = wrap.wrap(wrap.unwrap(key.wrapped, context, key.wrapping_key_id), context)
    return StoredPersonalKey(key.version, key.purpose, wrapped, wrap.key_id, key.create_time)


def opened(stored: StoredEncryption, wrap: KeyWrap | None, entropy: Entropy) -> PersonalKeys:
    """Return the copy of the stored state and keys. `wrap`: None only if no key is stored.

    Raises `ConfigurationError` if a key can't be decrypted or is missing.
    """
    if not stored.keys or wrap is None:
        if stored.state is not EncryptionState.OFF:
            raise ConfigurationError(
                "the personal data of the database is encrypted, but it has no keys for it; restore the table "
                "personal_data_keys from a backup"
            )
        return PersonalKeys(stored.state, stored.revision, None)
    data: dict[int, Secret] = {}
    index: Secret | None = None
    for key in stored.keys:
        secret = wrap.unwrap(key.wrapped, _context(key.version, key.purpose), key.wrapping_key_id)
        if key.purpose is KeyPurpose.INDEX:
            index = secret
        else:
            data[key.version] = secret
    if index is None or not data:
        raise ConfigurationError(
            "the database lacks the data key or the index key of personal data; restore the table personal_data_keys from a backup"
        )
    return PersonalKeys(stored.state, stored.revision, PersonalCipher(data, index, entropy))


def _new_key(
    version: int, purpose: KeyPurpose, wrap: KeyWrap, entropy: Entropy, now: float
) -> StoredPersonalKey:
    wrapped = wrap.wrap(Secret(entropy(KEY_BYTES)), _context(version, purpose))
    return StoredPersonalKey(version, purpose, wrapped, wrap.key_id, now)


def _context(version: int, purpose: KeyPurpose) -> bytes:
    return f"personal-data-key:{purpose.value}:{version}".encode()
