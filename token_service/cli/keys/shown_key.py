"""How commands show signing keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from token_service.cli.output import show_json, show_table, time_text
from token_service.core.keys.store import StoredSigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownKey:
    """What commands show of a signing key. None: not known, or not yet. Times are seconds since the Unix epoch."""

    key_id: str
    algorithm: str
    state: str
    provider: str
    wrapping_key_id: str | None = None
    certificates: int | None = None
    create_time: float
    activate_time: float | None
    retire_time: float | None
    revoke_time: float | None

    @classmethod
    def of(cls, key: StoredSigningKey) -> ShownKey:
        """Return the shown parts of a stored key."""
        return cls(
            key_id=key.key_id,
            algorithm=key.algorithm.value,
            state=key.state.value,
            provider=key.provider,
            wrapping_key_id=key.wrapping_key_id,
            certificates=len(key.certificates),
            create_time=key.create_time,
            activate_time=key.activate_time,
            retire_time=key.retire_time,
            revoke_time=key.revoke_time,
        )


def show_keys(keys: Sequence[ShownKey], output: str) -> None:
    """Print keys as a table, a JSON list, or one id per line."""
    if output == "json":
        show_json([_members(key) for key in keys])
    elif output == "id":
        for key in keys:
            click.echo(key.key_id)
    elif keys:
        show_table(
            ("KEY ID", "ALGORITHM", "STATE", "CREATED"),
            [(key.key_id, key.algorithm, key.state, time_text(key.create_time)) for key in keys],
        )


def show_key(key: ShownKey, output: str) -> None:
    """Print a changed key."""
    if output == "json":
        show_json(_members(key))
    else:
        show_keys([key], output)


def _members(key: ShownKey) -> dict[str, Any]:
    members = asdict(key)
    for name in ("create_time", "activate_time", "retire_time", "revoke_time"):
        members[name] = None if members[name] is None else time_text(members[name])
    return members
