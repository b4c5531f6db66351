"""The history of a session for the rules about risk: what its row keeps, and what only older rows have."""

from __future__ import annotations

from msgspec import structs

from token_service.core.events.event import NO_ORIGIN, Origin
from token_service.core.risk.history import MAX_ORIGINS, likeness, parse_history
from token_service.core.risk.observation import History, Seen
from token_service.core.sessions.details import SessionDetails


def history_of(details: SessionDetails, renewed: float, marks: History) -> History:
    """Return the history of a session whose last renewal was at `renewed`, with the counts of `marks`.

    Uses from the usual origin do not write the kept origins, so the last origin may be newer than the kept ones say.
    """
    session, kept, last = details.session, parse_history(details.origins), details.last_used_from
    origins = kept.origins
    if last != NO_ORIGIN:
        newest = Seen(renewed, last.ip_address, last.user_agent, session.device_id)
        if origins and _is_alike(origins[0], last):
            origins = (structs.replace(origins[0], time=renewed), *origins[1:])
        else:
            origins = (newest, *origins)
    created = details.created_from
    if not kept.origins and created not in (NO_ORIGIN, last):
        origins += (Seen(session.create_time, created.ip_address, created.user_agent, session.device_id),)
    return structs.replace(
        marks, origins=origins[:MAX_ORIGINS], renewed=renewed, quick_renewals=kept.quick_renewals
    )


def _is_alike(seen: Seen, origin: Origin) -> bool:
    return likeness(seen.address, seen.user_agent, "") == likeness(origin.ip_address, origin.user_agent, "")
