"""The steps of scenarios, and the messages in them."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any, Final

from tests.support.validation_vectors.fixed import KEY_SET, NOW, FixedMint
from token_service.tokens.fingerprint_set import fingerprint

REVOKED: Final = "REVOKED"
STALE: Final = "STALE"
LOG: Final = "log-1-of-vectors"
OTHER_LOG: Final = "log-2-of-vectors"
NEXT_KEY: Final = FixedMint("unpublished")
EXPIRE: Final = NOW + 900 + 300

Steps = list[dict[str, Any]]


def scenario(name: str, steps: Steps) -> dict[str, Any]:
    return {"name": name, "steps": steps}


def connect(at: float = 0, cursor: str = "") -> dict[str, Any]:
    return {"at": at, "do": "connect", "expect_cursor": cursor}


def receive(message: dict[str, Any], at: float = 0, **more: Any) -> dict[str, Any]:
    return {"at": at, "do": "receive", "message": message, **more}


def probe(name: str, at: float = 0, cursor: int | None = None, log: str = LOG) -> dict[str, Any]:
    applied = "" if cursor is None else f"{log}:{cursor}"
    return {"at": at, "do": "probe", "probe": name, "expect_applied_cursor": applied}


def answer(name: str, head: int, at: float = 0, log: str = LOG) -> dict[str, Any]:
    return {"at": at, "do": "answer", "probe": name, "head_cursor": f"{log}:{head}"}


def check(token: str, verdict: str, at: float = 0, **more: Any) -> dict[str, Any]:
    return {"at": at, "do": "check", "token": token, **more, "verdict": verdict}


def time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").replace(".000000Z", "Z")


def entry(sequence: int, revoke_time: float = NOW, **target: Any) -> dict[str, Any]:
    return {
        "sequence": str(sequence),
        **target,
        "revoke_time": time(revoke_time),
        "expire_time": time(EXPIRE),
    }


def tail(*entries: dict[str, Any], cursor: int, log: str = LOG, **more: Any) -> dict[str, Any]:
    return {"revocations": list(entries), "cursor": f"{log}:{cursor}", "caught_up": True, **more}


def snapshot(
    *entries: dict[str, Any], cursor: int, log: str = LOG, keys: dict[str, Any] = KEY_SET, **more: Any
) -> dict[str, Any]:
    return {"reset": True, "key_set": keys, **tail(*entries, cursor=cursor, log=log), **more}


def block(target: str, bucket: int, *ids: str | bytes) -> dict[str, Any]:
    packed = b"".join(sorted(one if isinstance(one, bytes) else fingerprint(one) for one in ids))
    return {
        "target": f"BLOCK_TARGET_{target}",
        "bucket": str(bucket),
        "fingerprints": b64encode(packed).decode(),
        "expire_time": time(EXPIRE),
    }


def fresh(*entries: dict[str, Any], cursor: int, **more: Any) -> Steps:
    """Return the steps to a fresh set with these entries."""
    return [
        connect(),
        receive(snapshot(*entries, cursor=cursor, **more)),
        probe("first", cursor=cursor),
        answer("first", cursor),
    ]
