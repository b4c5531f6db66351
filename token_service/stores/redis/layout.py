"""What is where in Redis: a public contract for gateways that want to ask for revocations without a stream.

Redis holds a copy. The log in SQL is the truth, the copy may be lost at any time and is rebuilt from it, and
a reader that can't trust the copy (see *How to ask*) asks `ValidateToken`.

Keys
----
`token_service:epoch` is a string: the epoch of the log, the name in front of the colon of every cursor. All
other keys begin with `P` = `token_service:{<epoch>}`, braces included, so that a Redis Cluster keeps them in
one slot. Times are NumericDates: whole seconds (`exp`) or whole microseconds where a name ends in `_us`.
`<state>` is `<sequence>:<revoke_time_us>` of the highest entry.

=========================  ======  ================================================================================================
key                        type    content
=========================  ======  ================================================================================================
`P:head`                   string  The copy has every live entry up to this sequence. Missing: the copy is not complete, don't trust it.
`P:jti:<bucket>`           set     Revoked token ids whose `exp` divided by 64, rounded down, is the bucket (never 0).
`P:jti:0:<token id>`       string  `<state>` of a token id that was revoked without its token, so that its `exp` was not known.
`P:sid:<session id>`       string  `<state>`: the session is revoked, and with it every token that has this `sid`.
`P:sub:<subject>`          string  `<state>`: what was issued for the subject before is revoked.
`P:client:<client id>`     string  `<state>`: what was issued to the client before is revoked.
`P:kid:<key id>`           string  `<state>`: every token signed with this key is revoked.
`P:everything`             string  `<state>`: every token issued before is revoked.
`P:log`                    stream  The newest entries. The id of entry n is `n-0`; fields are below. A hint to look: entries may be missing.
`P:ahead`                  zset    For nodes: sequences that arrived before an earlier one.
`P:rebuild:<nonce>`        string  For nodes: somebody is filling the copy.
=========================  ======  ================================================================================================

Every key expires when nothing in it can hit a valid token any more: a bucket at its end plus 300 s, the most
a validator may allow for clocks that differ. Keep the eviction policy at `noeviction`: an evicted key would
be a revocation nobody misses.

Fields of a stream entry, all text: `target` (`token_id`, `session`, `subject`, `client`, `key`,
`everything`), `value` (the id; empty for `everything`), `revoke_time_us`, `expire_time_us`, `reason` (the
number of `RevocationReason` in `token_service.proto`) and, where it is known, `token_expire_time` (`exp` of
the token).

How to ask
----------
For a token whose signature and times are good, in one pipeline::

    SISMEMBER P:jti:<exp // 64> <jti>
    EXISTS    P:jti:0:<jti>  P:sid:<sid>  P:kid:<kid>
    MGET      P:sub:<sub>  P:client:<client_id>  P:everything
    GET       P:head

- `P:head` is missing: don't trust the other answers.
- The first answer is 1, or the second is not 0: revoked.
- For each `<sequence>:<revoke_time_us>` of the third: the token is revoked if its `rev` is less than the
  sequence; if it has no `rev`, if `iat * 1000000` is not greater than the time.
- Else the token was good as of entry `P:head`.

`client_id` is the claim of that name in an access token, `azp` in an ID token. Read `token_service:epoch` at
start and again whenever `P:head` is missing: a log that is renewed gets another epoch, and the head of the
one before is deleted.

Example
-------
The log `k3vX9aQm`, the token `{"jti": "8Zr1", "sid": "0199…", "sub": "alice", "client_id": "web", "exp":
1767230000, "rev": 41}` and, since it was issued, `RevokeToken(subject="alice")` as entry 42::

    > GET token_service:epoch                                   "k3vX9aQm"
    > SISMEMBER token_service:{k3vX9aQm}:jti:27612968 8Zr1      (integer) 0
    > EXISTS token_service:{k3vX9aQm}:jti:0:8Zr1 token_service:{k3vX9aQm}:sid:0199… token_service:{k3vX9aQm}:kid:kPrK
                                                                (integer) 0
    > MGET token_service:{k3vX9aQm}:sub:alice token_service:{k3vX9aQm}:client:web token_service:{k3vX9aQm}:everything
                                                                1) "42:1767226400123456"  2) (nil)  3) (nil)
    > GET token_service:{k3vX9aQm}:head                         "42"

41 is less than 42: revoked. A token issued for alice afterwards has `rev` 42 or more, and is good.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Final

from token_service.tokens.claims import MAX_NUMERIC_DATE
from token_service.tokens.revocation import MAX_LEEWAY, Revocation, RevocationReason, RevocationTarget
from token_service.tokens.revocation_set import TOKEN_BUCKET_SECONDS

EPOCH_KEY: Final = "token_service:epoch"
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
    """What all keys of a log begin with."""
    return f"token_service:{{{epoch}}}:"


def bucket_of(entry: Revocation) -> int | None:
    """The bucket of a token id whose expiry is known; None for every other entry."""
    if entry.target is RevocationTarget.TOKEN_ID and entry.token_expire_time is not None:
        return max(1, entry.token_expire_time // TOKEN_BUCKET_SECONDS)
    return None


def key_of(entry: Revocation) -> str:
    """The key that holds an entry, without the prefix."""
    bucket = bucket_of(entry)
    return f"{_KEYS[entry.target]}{entry.value}" if bucket is None else f"jti:{bucket}"


def expiry_of(entry: Revocation) -> int:
    """When the key of an entry expires: milliseconds since the epoch.

    The same for all entries of a bucket.
    """
    bucket = bucket_of(entry)
    if bucket is None:
        return ceil(entry.expire_time * 1000)
    return ((bucket + 1) * TOKEN_BUCKET_SECONDS + MAX_LEEWAY) * 1000


def state_of(entry: Revocation) -> str:
    """`<sequence>:<revoke_time_us>`."""
    return f"{entry.sequence}:{_microseconds(entry.revoke_time)}"


def fields_of(entry: Revocation) -> list[str]:
    """The stream entry: names and values in turn."""
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
    """The entry in the stream. Raises `ValueError` if it is none: others may write to Redis, too."""
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
