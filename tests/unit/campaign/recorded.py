"""A recorded history without a violation. Tests break it in one place."""

from __future__ import annotations

from typing import Any

from tests.faults.campaign.history import Record

S = 2.0
WALL = 1_000_000.0
"""Wall-clock time at the beginning."""


def token(
    number: int, session: str = "s1", *, b: float = 1.0, e: float = 1.1, exp: float = WALL + 900
) -> Record:
    owner = {"session": session, "subject": f"user of {session}", "client": "web"}
    return {
        "k": "token",
        "n": number,
        **owner,
        "id": f"id{number}",
        "kid": "key1",
        "exp": exp,
        "b": b,
        "e": e,
    }


def revoked(
    number: int,
    target: str,
    value: str,
    *,
    sent: float,
    acknowledged: float | None = None,
    attempts: int = 1,
) -> list[Record]:
    attempt = {"r": number, "target": target, "value": value, "at": sent, "wall": WALL + sent}
    records: list[Record] = [{"k": "revoking", **attempt}]
    if acknowledged is not None:
        records.append(
            {
                "k": "revoked",
                "r": number,
                "at": acknowledged,
                "cursor": f"epoch:{number}",
                "attempts": attempts,
            }
        )
    return records


def passed(
    b: float,
    e: float,
    *,
    ok: str = "",
    no: dict[str, str] | None = None,
    cursors: tuple[int, int] = (1, 1),
    **more: Any,
) -> Record:
    before, after = (
        [f"epoch:{sequence}", b - 0.5, b + 1.5, 7, at, at]
        for sequence, at in zip(cursors, (b, e), strict=True)
    )
    record = {
        "k": "pass",
        "v": "validators0.1",
        "b": b,
        "e": e,
        "wall": WALL + b,
        "ok": ok,
        "no": no or {},
        "st": 0,
    }
    return {**record, "s0": before, "s1": after, **more}


def refreshed(
    old: str, new: str, *, b: float, e: float, first: float | None = None, session: str = "s1"
) -> Record:
    return {"k": "refreshed", "session": session, "old": old, "new": new, "first": first or b, "b": b, "e": e}


def refused_refresh(
    old: str, reason: str, *, b: float, e: float, first: float, session: str = "s1"
) -> Record:
    record = {"k": "refresh_refused", "session": session, "old": old, "reason": reason}
    return {**record, "first": first, "b": b, "e": e}


def validated(number: int, *, b: float, strong: bool, active: bool) -> Record:
    reason = "UNSPECIFIED" if active else "REVOKED"
    record = {"k": "validated", "n": number, "strong": strong, "active": active, "reason": reason}
    return {**record, "cursor": "epoch:1", "b": b, "e": b + 0.01}


def streamed(at: float, *, entries: str = "", cursor: str = "", reset: bool = False) -> Record:
    return {
        "k": "stream",
        "v": "consumers.1.0",
        "at": at,
        "reset": reset,
        "blocks": 0,
        "entries": entries,
        "cursor": cursor,
    }


def fault(number: int, kind: str, target: str, begin: float, end: float) -> list[Record]:
    return [
        {"k": "fault", "id": number, "kind": kind, "target": target, "at": begin},
        {"k": "fault_end", "id": number, "at": end},
    ]


def good() -> list[Record]:
    """Return a history: sessions begin, refresh and are revoked; validators refuse revoked tokens; each node recovers."""
    return [
        {"k": "started", "p": "validators0", "at": 0.5, "names": ["validators0.1"]},
        {"k": "begun", "session": "s1", "b": 1.0, "e": 1.1},
        token(1),
        token(2, "s2"),
        token(3, exp=WALL + 4),
        streamed(1.0, reset=True, cursor="epoch:0"),
        *fault(1, "SIGSTOP of node", "node0", 1.5, 4.0),
        refreshed("a", "b", b=2.0, e=2.2),
        refreshed("a", "b", b=2.3, e=2.4, first=2.0),
        refreshed("b", "c", b=2.5, e=2.6),
        passed(2.0, 2.02, ok="1-3"),
        *revoked(1, "session_id", "s1", sent=3.0, acknowledged=3.1),
        streamed(3.1, entries="1", cursor="epoch:1"),
        # Began within S; the process was stopped for a minute before it could write this.
        passed(3.1 + S - 0.001, 65.0, ok="1,2"),
        validated(1, b=3.2, strong=True, active=False),
        validated(2, b=3.2, strong=True, active=True),
        passed(66.0, 66.02, ok="2", no={"REVOKED": "1", "EXPIRED": "3"}, cursors=(1, 2)),
        refused_refresh("c", "SESSION_REVOKED", b=66.0, e=66.1, first=66.0),
        *revoked(2, "everything", "", sent=67.0),
        passed(68.0, 68.02, no={"REVOKED": "1,2"}, cursors=(2, 2)),
        {"k": "memory", "p": "node0", "at": 68.0, "rss": 120.0},
        {"k": "ended", "p": "node0", "at": 68.0, "code": -9, "ready": False, "log": ""},
        {
            "k": "rpc",
            "method": "RefreshToken",
            "code": "UNAUTHENTICATED",
            "reason": "SESSION_REVOKED",
            "text": "",
            "b": 66,
            "e": 67,
        },
        {"k": "rest", "b": 70.0, "at": 75.0, "missing": []},
    ]
