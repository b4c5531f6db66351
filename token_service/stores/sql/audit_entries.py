"""The statement that finds the audit events of entries of the revocation log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from token_service.core.events.event import Action
from token_service.core.events.store import REVOKING
from token_service.core.personal_data.cipher import Kind
from token_service.core.personal_data.keys import PersonalKeys
from token_service.stores.sql.expressions import is_one_of
from token_service.stores.sql.micros import to_micros
from token_service.stores.sql.schema import audit_events
from token_service.tokens.revocation import MAX_LEEWAY, Revocation, RevocationTarget

_E: Final = audit_events.c
_COLUMNS: Final = {
    RevocationTarget.TOKEN_ID: _E.target_id,
    RevocationTarget.SESSION: _E.session_id,
    RevocationTarget.SUBJECT: _E.subject,
    RevocationTarget.CLIENT: _E.target_id,
    RevocationTarget.KEY: _E.target_id,
}
_LATER: Final = 60.0
"""Seconds from the time of an entry to the time of its event, which is written by the clock of the same node."""


def select_of_entries(entries: Sequence[Revocation], keys: PersonalKeys) -> sa.Select[Any]:
    """Return the statement for the rows that may be those of entries. The cursors of the rows decide.

    Each branch of the condition is one search in an index: by the id of the target and the time.
    """
    return sa.select(audit_events).where(
        _E.action.in_((*REVOKING, Action.LOG_RENEWED.value)),
        sa.or_(*(_is_near(entry, keys) for entry in entries)),
    )


def _is_near(entry: Revocation, keys: PersonalKeys) -> sa.ColumnElement[bool]:
    column = _COLUMNS.get(entry.target)
    if column is None:
        since, until = to_micros(entry.revoke_time - 1), to_micros(entry.revoke_time + _LATER)
        return sa.and_(_E.target_kind.in_(("everything", "log")), _E.time.between(since, until))
    is_subject = entry.target is RevocationTarget.SUBJECT
    return sa.and_(
        is_one_of(column, keys.forms(Kind.SUBJECT, entry.value) if is_subject else (entry.value,)),
        column != sa.literal_column("''"),  # the condition of the index
        _E.time >= to_micros(entry.revoke_time - MAX_LEEWAY),
        _E.time < to_micros(entry.revoke_time + MAX_LEEWAY),
    )
