"""The keys in Redis: a public contract for gateways, documented in docs/redis-layout.md.

Redis holds a copy of the live revocations. The SQL log is the source of truth: the copy can be lost at any time and is
rebuilt from the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Final

from token_service.tokens.claims import MAX_NUMERIC_DATE
from token_service.tokens.revocation import MAX_LEEWAY, Revocation, RevocationReason, RevocationTarget
from token_service.tokens.revocation_set import TOKEN_BUCKET_SECONDS

ROOT: Final = "token_service"
EPOCH_KEY: Final = f"{ROOT}:epoch"
_MAX_SEQUENCE: Final = 2**63 - 1
_MAX_MICROSECONDS: Final = MAX_NUMERIC_DATE * 1_000_000

_NAMES: Final = {
    RevocationTarget.TOKEN_ID: "token_id",
    RevocationTarget.SESSION: "session",
    RevocationTarget.SUBJECT: "subject",
    RevocationTarget.CLIENT: "client",
    RevocationTarget.KEY: "key",
    RevocationTarget.EVERYTHING: "everything",
}
_TARGETS: Final = {name: target for target, name in _NAMES.items()}
_KEYS: Final = {
    RevocationTarget.TOKEN_ID: "jti:0:",
    RevocationTarget.SESSION: "sid:",
    RevocationTarget.SUBJECT: "sub:",
    RevocationTarget.CLIENT: "client:",
    RevocationTarget.KEY: "kid:",
    RevocationTarget.EVERYTHING: "everything",
}


def prefix(epoch: str) -> str:
    """Return the common prefix of all keys of a log."""
    return f"{ROOT}:{{{epoch}}}:"


def rates(epoch: str) -> str:
    """Return the namespace of the rates of a log, after `ROOT` and a colon."""
    return f"{{{epoch}}}:rate"


def bucket_of(entry: Revocation) -> int | None:
    """Return the bucket of a token id with a known expiry, or None for every other entry."""
    if entry.target is RevocationTarget.TOKEN_ID and entry.token_expire_time is not None:
        return max(1, entry.token_expire_time // TOKEN_BUCKET_SECONDS)
    return None


def key_of(entry: Revocation) -> str:
    """Return the key that holds an entry, without the prefix."""
    bucket = bucket_of(entry)
    return f"{_KEYS[entry.target]}{entry.value}" if bucket is None else f"jti:{bucket}"


def expiry_of(entry: Revocation) -> int:
    """Return the time at which the key of an entry expires, in milliseconds since the epoch.

    The time is the same for all entries of a bucket.
    """
    bucket = bucket_of(entry)
    if bucket is None:
        return ceil(entry.expire_time * 1000)
    return ((bucket + 1) * TOKEN_BUCKET_SECONDS + MAX_LEEWAY) * 1000


def state_of(entry: Revocation) -> str:
    """Return `<sequence>:<revoke_time_us>`."""
    return f"{entry.sequence}:{_microseconds(entry.revoke_time)}"


def fields_of(entry: Revocation) -> list[str]:
    """Return the stream entry as alternating names and values."""
    fields = [
        *("target", _NAMES[entry.target], "value", entry.value),
        *("revoke_time_us", str(_microseconds(entry.revoke_time))),
        *("expire_time_us", str(_microseconds(entry.expire_time))),
        *("reason", str(entry.reason.value)),
    ]
    if entry.token_expire_time is not None:
        fields += ["token_expire_time", str(entry.token_expire_time)]
    return fields


def entry_of(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Revocation:
    """Return the revocation in a stream entry. Raises `ValueError` for foreign entries: others may write to Redis too."""
    try:
        sequence, _, rest = entry_id.decode("ascii").partition("-")
        expiry = fields.get(b"token_expire_time")
        if rest != "0":
            raise ValueError("not an id of the log")
        return Revocation(
            sequence=_number(sequence, _MAX_SEQUENCE),
            target=_TARGETS[fields[b"target"].decode()],
            value=fields[b"value"].decode(),
            revoke_time=_number(fields[b"revoke_time_us"], _MAX_MICROSECONDS) / 1_000_000,
            expire_time=_number(fields[b"expire_time_us"], _MAX_MICROSECONDS) / 1_000_000,
            reason=RevocationReason(int(fields[b"reason"])),
            token_expire_time=None if expiry is None else _number(expiry, MAX_NUMERIC_DATE),
        )
    except KeyError as error:
        raise ValueError(f"no or unknown {error}") from None


def _number(text: str | bytes, most: int) -> int:
    number = int(text)
    if not 0 <= number <= most:
        raise ValueError("a number out of range")
    return number


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
