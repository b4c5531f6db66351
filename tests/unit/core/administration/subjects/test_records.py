"""The members of exported records."""

from __future__ import annotations

from uuid import UUID

import msgspec

from tests.contract.builders import NOW, a_session, digest
from token_service.core.administration.subjects.records import session_members, time_text
from token_service.core.events.event import Origin
from token_service.core.risk.history import format_history
from token_service.core.risk.observation import History, Seen
from token_service.core.sessions.details import Floor, SessionDetails
from token_service.core.sessions.session import Session
from token_service.tokens.claims import AuthContext
from token_service.tokens.revocation import RevocationReason, RevocationTarget

SECRETS = {
    "refresh_hash",
    "previous_hash",
    "session_hash",
    "personal_hash",
    "key_version",
    "retries",
    "revision",
    "floor",
    "head",
}
"""Fields of a session that say nothing about its subject, or are secret."""


def test_a_session_is_exported_whole_but_without_hashes() -> None:
    session = a_session(
        id=UUID(int=1),
        auth_context=AuthContext(acr="gold"),
        custom_claims={"team": "blue"},
        identity_claims={"email": "alice@example.org"},
        session_hash=digest("session"),
        floor=2,
    )
    history = History(origins=(Seen(NOW, "192.0.2.5", "Firefox", "phone"),))
    floor = Floor(RevocationTarget.SUBJECT, 2, NOW + 5, RevocationReason.LOGOUT)
    details = SessionDetails(
        session,
        Origin("192.0.2.1", "curl"),
        Origin("192.0.2.2", "wget"),
        (floor,),
        b"t",
        format_history(history),
    )
    members = session_members(details, NOW)
    assert members["identity_claims"] == {"email": "alice@example.org"}
    assert members["created_from"] == {"ip_address": "192.0.2.1", "user_agent": "curl"}
    assert members["known_origins"] == [
        {"time": time_text(NOW), "ip_address": "192.0.2.5", "user_agent": "Firefox", "device_id": "phone"}
    ]
    assert (members["state"], members["revoked_through"], members["revoke_reason"]) == (
        "revoked",
        "subject",
        "logout",
    )
    text = msgspec.json.encode(members)
    for secret in (session.refresh_hash, session.session_hash):
        assert secret is not None
        assert secret.hex().encode() not in text


def test_every_field_of_a_session_is_exported_or_known_to_be_left_out() -> None:
    """A new field with personal data must not be forgotten."""
    renamed = {
        "id": "session_id",
        "generation": "refreshes",
        "access_token_ttl": None,
        "with_id_token": None,
        "rotate_time": None,
    }
    members = session_members(SessionDetails(a_session()), NOW)
    missing = {
        name
        for name in Session.__dataclass_fields__
        if name not in SECRETS
        and renamed.get(name, name) is not None
        and renamed.get(name, name) not in members
    }
    assert missing == set()
