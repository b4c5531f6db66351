"""The issued tokens and the revocations, attempted and acknowledged."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tests.faults.campaign.history import Record
from token_service.tokens.revocation import MAX_LEEWAY

_KEYS = {
    "token_id": "id",
    "session_id": "session",
    "subject": "subject",
    "client_id": "client",
    "key_id": "kid",
}
_ENDING = ("session_id", "subject", "client_id")

_DELAYED = 60.0
"""Seconds until an unanswered attempt takes effect at the latest, after a repetition of it was acknowledged."""


@dataclass
class Revocation:
    """One call with all its repetitions."""

    number: int
    target: str
    value: str
    at: float
    """Time just before the first attempt."""
    wall: float = 0.0
    """The same time as a NumericDate."""
    acknowledged: float | None = None
    cursor: str = ""
    until: float = float("inf")
    """Time at which the last attempt has taken effect at the latest."""


class Ledger:
    """Tokens and revocations."""

    def __init__(self) -> None:
        self.tokens: dict[int, Record] = {}
        self.revocations: dict[int, Revocation] = {}
        self._by_target: defaultdict[tuple[str, str], list[Revocation]] = defaultdict(list)

    def feed(self, record: Record) -> None:
        """Take a record."""
        kind = record["k"]
        if kind == "token":
            self.tokens[record["n"]] = record
        elif kind == "revoking":
            self._attempt(
                Revocation(
                    record["r"], record["target"], record["value"], record["at"], record.get("wall", 0.0)
                )
            )
        elif kind == "revoked" and record["r"] in self.revocations:
            revocation = self.revocations[record["r"]]
            revocation.acknowledged, revocation.cursor = record["at"], record["cursor"]
            # An unanswered attempt may take effect after the one that was acknowledged.
            revocation.until = record["at"] + (_DELAYED if record["attempts"] > 1 else 0.0)
        elif kind == "refresh_refused" and record["reason"] == "REFRESH_TOKEN_REUSED":
            # The service ends such a session itself.
            number = -len(self.revocations) - 1
            self._attempt(Revocation(number, "session_id", record["session"], record["first"]))

    def must_be_refused(self, number: int) -> Revocation | None:
        """Return the first acknowledged revocation that hits a token and was sent after its issuance."""
        token = self.tokens.get(number)
        return None if token is None else self._first_acknowledged(token, tuple(_KEYS))

    def session_must_be_ended(self, token: Record) -> Revocation | None:
        """Return the first acknowledged revocation that ends the session of a token."""
        return self._first_acknowledged(token, _ENDING)

    def may_be_refused(self, number: int, by: float) -> bool:
        """Return whether a revocation that could have hit a token was sent before `by`."""
        token = self.tokens.get(number)
        return token is None or any(_could_hit(token, each, by) for each in _flat(self._of(token)))

    def of_token(self, number: int, zero: float) -> str:
        """Return lines with the issuance of a token and the revocations that concern it."""
        token = self.tokens[number]
        lines = [f"    issued in a call from {token['b'] - zero:+.3f} s to {token['e'] - zero:+.3f} s"]
        revocations = sorted(_flat(self._of(token)), key=lambda each: each.at)
        for each in revocations[-5:]:
            acknowledged = "never" if each.acknowledged is None else f"{each.acknowledged - zero:+.3f} s"
            lines.append(
                f"    revocation {each.number} ({each.target}): sent {each.at - zero:+.3f} s, acknowledged {acknowledged}"
            )
        return "\n".join(lines) + "\n"

    def may_have_ended(self, token: Record, by: float, *, told: bool = False) -> bool:
        """Return whether a revocation that could have ended the session of a token was sent before `by`.

        `told`: count only revocations that the load sent, not those that the service made itself.
        """
        revocations = _flat(self._of(token, _ENDING))
        return any(_could_hit(token, each, by) and (each.number >= 0 or not told) for each in revocations)

    def forget(self, before: float) -> None:
        """Drop tokens issued before `before`."""
        for number in [number for number, token in self.tokens.items() if token["e"] < before]:
            del self.tokens[number]

    def _attempt(self, revocation: Revocation) -> None:
        self.revocations[revocation.number] = revocation
        revocations = self._by_target[revocation.target, revocation.value]
        at = bisect_left(revocations, revocation.at, key=lambda each: each.at)
        revocations.insert(at, revocation)

    def _first_acknowledged(self, token: Record, targets: Iterable[str]) -> Revocation | None:
        best: Revocation | None = None
        soonest = float("inf")
        for revocations in self._of(token, targets):
            for revocation in revocations[bisect_left(revocations, token["e"], key=lambda each: each.at) :]:
                if revocation.at > soonest:
                    break
                if _is_needless(token, revocation):
                    continue
                if revocation.acknowledged is not None and revocation.acknowledged < soonest:
                    best, soonest = revocation, revocation.acknowledged
        return best

    def _of(self, token: Record, targets: Iterable[str] = tuple(_KEYS)) -> list[list[Revocation]]:
        keys = [(target, token[_KEYS[target]]) for target in targets]
        return [self._by_target[key] for key in (*keys, ("everything", "")) if key in self._by_target]


def _is_needless(token: Record, revocation: Revocation) -> bool:
    """Return whether a token had expired for every validator before its own revocation was sent.

    The service writes no entry for such a token. Only a node whose clock is an hour behind issues one as valid.
    """
    return revocation.target == "token_id" and bool(revocation.wall >= token["exp"] + MAX_LEEWAY)


def _could_hit(token: Record, revocation: Revocation, by: float) -> bool:
    # A node that does not know of the revocation may still sign with the revoked key.
    return revocation.at <= by and (revocation.target == "key_id" or revocation.until >= token["b"])


def _flat(lists: Iterable[list[Revocation]]) -> Iterable[Revocation]:
    return (revocation for revocations in lists for revocation in revocations)
