"""The two codes of a device (RFC 8628, section 3.2): a sealed one for the client, and a short one for its user.

A user code has 8 of 20 consonants, so that it is easy to type and spells no word: 20^8 = 2.6 * 10^10, or 34.6 bits.
Guesses are limited by address (`login.devices`): with 20 in ten minutes, the lifetime of a code, 1000 addresses find one
of 1000 pending codes with a probability of 0.08 %. A hit gives no token: it lets the finder approve a device of another
person with the finder's own account.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from token_service.core.entropy import Entropy
from token_service.core.keys.sealer import Sealer
from token_service.errors import GrantInvalidError
from token_service.tokens.opaque_token import OpaqueTokenError

DEVICE_CODE_TTL: Final = 600.0
"""Seconds that a user has to find the page, to type the code and to log in."""
POLL_INTERVAL: Final = 5.0
"""Seconds between two polls of a client, unless it was told to slow down."""
USER_CODE_LENGTH: Final = 8
USER_CODE_ALPHABET: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""The letters that RFC 8628 proposes in section 6.1: no vowels, no digits, no letters that look like one."""
_LETTERS: Final = frozenset(USER_CODE_ALPHABET)
_USER_CODES: Final = len(USER_CODE_ALPHABET) ** USER_CODE_LENGTH
_MAX_TYPED: Final = 64
_ID_BYTES: Final = 16


class DeviceCode(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a device code. Times are NumericDates."""

    id: bytes
    user_code_digest: bytes
    """The name of the request in the store."""
    client_id: str
    expire_time: float

    @property
    def digest(self) -> bytes:
        """The name of the code in the session that it is exchanged for."""
        return hashlib.sha256(b"device code\0" + self.id).digest()


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(DeviceCode).decode


class DeviceCodes:
    """Makes and reads the codes of devices."""

    def __init__(self, sealer: Sealer, entropy: Entropy) -> None:
        self._sealer = sealer
        self._entropy = entropy

    def new_user_code(self) -> str:
        """Return a random user code without its separator."""
        # 2^64 is 7 * 10^8 times the number of codes, so no code is more likely than another by more than that.
        number = int.from_bytes(self._entropy(8)) % _USER_CODES
        letters = []
        for _ in range(USER_CODE_LENGTH):
            number, letter = divmod(number, len(USER_CODE_ALPHABET))
            letters.append(USER_CODE_ALPHABET[letter])
        return "".join(letters)

    def new(self, client_id: str, user_code: str, now: float) -> tuple[DeviceCode, str]:
        """Return a new device code and its text."""
        code = DeviceCode(
            id=self._entropy(_ID_BYTES),
            user_code_digest=user_code_digest(user_code),
            client_id=client_id,
            expire_time=now + DEVICE_CODE_TTL,
        )
        return code, self._sealer.seal(_encode(code))

    async def read(self, text: str) -> DeviceCode:
        """Return an authentic device code, which may have expired.

        Raises `GrantInvalidError`, `KeysStaleError`, `StoreUnavailableError`.
        """
        try:
            return _decode(await self._sealer.open(text))
        except (OpaqueTokenError, msgspec.MsgspecError):
            raise GrantInvalidError("device_code: it is not a device code of this service") from None


def parse_user_code(typed: str) -> str | None:
    """Return the user code that a person typed, whatever its case and separators; None if it can't be one."""
    if len(typed) > _MAX_TYPED:
        return None
    code = "".join(character for character in typed if character.isalnum())
    # Outside of ASCII, a letter in upper case may be two others.
    if len(code) != USER_CODE_LENGTH or not code.isascii() or not set(code.upper()) <= _LETTERS:
        return None
    return code.upper()


def shown_user_code(code: str) -> str:
    """Return a user code as it is shown: `XXXX-XXXX`."""
    half = USER_CODE_LENGTH // 2
    return f"{code[:half]}-{code[half:]}"


def user_code_digest(code: str) -> bytes:
    """Return the name of a user code in the store.

    It keeps codes out of dumps of the database. It does not hide them from a search through all codes, which takes longer
    than most of them live.
    """
    return hashlib.sha256(b"user code\0" + code.encode()).digest()
