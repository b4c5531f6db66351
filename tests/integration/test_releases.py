"""The databases of every recorded release, used by a current node."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from tests.releases.record import DATABASE, ISSUER, KEY_FILE
from tests.releases.sql import load_postgres, load_sqlite
from tests.support.libfaketime import MovableClock, find_libfaketime
from tests.support.processes import ServiceProcess
from token_service.v1 import (
    key_service_pb2 as keys_pb,
    key_service_pb2_grpc as keys_grpc,
    session_service_pb2 as sessions_pb,
    session_service_pb2_grpc as sessions_grpc,
    token_pb2,
    token_service_pb2 as pb,
    token_service_pb2_grpc as tokens_grpc,
)

RELEASES = Path(__file__).resolve().parents[1] / "releases"
VERSIONS = sorted(path.parent.name for path in RELEASES.glob("*/record.json"))
TIMEOUT = 60.0


@dataclass
class Upgraded:
    """A current node on the database of a release, a minute after it was recorded."""

    record: dict[str, Any]
    tokens: Any
    keys: Any
    sessions: Any

    def validate(self, token: str) -> pb.ValidateTokenResponse:
        request = pb.ValidateTokenRequest(token=token, consistency=pb.CONSISTENCY_STRONG)
        response: pb.ValidateTokenResponse = self.tokens.ValidateToken(request, timeout=TIMEOUT)
        return response

    def refresh(self, token: str, **fields: Any) -> pb.RefreshTokenResponse:
        request = pb.RefreshTokenRequest(refresh_token=token, **{"client_id": "web", **fields})
        response: pb.RefreshTokenResponse = self.tokens.RefreshToken(request, timeout=TIMEOUT)
        return response


@pytest.fixture(params=VERSIONS)
def release(request: pytest.FixtureRequest) -> Path:
    return RELEASES / str(request.param)


@pytest.fixture(params=["sqlite", "postgresql"])
def upgraded(request: pytest.FixtureRequest, release: Path, tmp_path: Path) -> Iterator[Upgraded]:
    record = json.loads((release / "record.json").read_text())[request.param]
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(release / "test-key-encryption.key", data / KEY_FILE)
    (data / KEY_FILE).chmod(0o600)
    env = {"TOKEN_SERVICE_ISSUER": ISSUER, "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}
    if request.param == "sqlite":
        load_sqlite(data / DATABASE, release / "sqlite.sql")
    else:
        url = request.getfixturevalue("postgres_url")
        load_postgres(url, release / "postgresql.sql")
        env["TOKEN_SERVICE_DATABASE_URL"] = url
    clock = MovableClock(find_libfaketime(), tmp_path / "clock")
    clock.move(record["record_time"] + 60 - round(time.time()))
    service = ServiceProcess(env={**env, **clock.environment}, data_dir=data)
    with service, grpc.insecure_channel(service.grpc_address) as channel:
        yield Upgraded(
            record,
            tokens_grpc.TokenServiceStub(channel),
            keys_grpc.KeyServiceStub(channel),
            sessions_grpc.SessionServiceStub(channel),
        )


def test_a_release_is_recorded() -> None:
    assert "0.1.0" in VERSIONS


def test_active_tokens_stay_active(upgraded: Upgraded) -> None:
    for name, tokens in upgraded.record["active"].items():
        for kind in ("access", "id", "session"):
            if kind in tokens:
                assert upgraded.validate(tokens[kind]).active, (name, kind)
    kept = upgraded.validate(upgraded.record["active"]["kept"]["access"])
    assert kept.claims.subject == "alice"
    assert kept.claims.custom_claims["tier"] == "gold"


def test_revoked_tokens_stay_revoked(upgraded: Upgraded) -> None:
    judged = {
        (by, kind): upgraded.validate(token)
        for by, tokens in upgraded.record["revoked"].items()
        for kind, token in tokens.items()
        if kind != "refresh"
    }
    assert not [which for which, response in judged.items() if response.active]
    assert {pb.InvalidReason.Name(response.reason) for response in judged.values()} == {
        "INVALID_REASON_REVOKED"
    }
    for by in ("session", "subject", "client"):
        client_id = "kiosk" if by == "client" else "web"
        with pytest.raises(grpc.RpcError) as refused:
            upgraded.refresh(upgraded.record["revoked"][by]["refresh"], client_id=client_id)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_refresh_token_families_continue(upgraded: Upgraded) -> None:
    active = upgraded.record["active"]
    for token, fields in (
        (active["kept"]["refresh"], {"device_id": "phone-1"}),
        (active["renewed"]["refresh"], {}),
    ):
        first = upgraded.refresh(token, **fields)
        second = upgraded.refresh(first.refresh_token, **fields)
        assert upgraded.validate(second.access_token).active


def test_a_superseded_refresh_token_is_reuse_after_the_upgrade(upgraded: Upgraded) -> None:
    newest = upgraded.refresh(upgraded.record["active"]["renewed"]["refresh"])
    with pytest.raises(grpc.RpcError) as refused:
        upgraded.refresh(upgraded.record["superseded"])
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not upgraded.validate(newest.access_token).active


def test_a_retried_request_finds_its_session(upgraded: Upgraded) -> None:
    request = pb.IssueTokenRequest(
        subject="alice",
        client_id="web",
        audience=["https://api.example"],
        scopes=["read", "write"],
        token_types=[
            token_pb2.TOKEN_TYPE_ACCESS,
            token_pb2.TOKEN_TYPE_REFRESH,
            token_pb2.TOKEN_TYPE_ID,
            token_pb2.TOKEN_TYPE_SESSION,
        ],
        device_id="phone-1",
        request_id="once",
    )
    request.custom_claims.update({"tier": "gold"})
    again = upgraded.tokens.IssueToken(request, timeout=TIMEOUT)
    assert again.session_id == upgraded.record["session_ids"]["kept"]


def test_the_log_continues_at_its_sequence(upgraded: Upgraded) -> None:
    epoch, _, sequence = upgraded.record["head"].rpartition(":")
    response = upgraded.tokens.RevokeToken(pb.RevokeTokenRequest(subject="gina"), timeout=TIMEOUT)
    assert response.cursor == f"{epoch}:{int(sequence) + 1}"
    stream = upgraded.tokens.StreamRevocations(
        pb.StreamRevocationsRequest(cursor=upgraded.record["head"]), timeout=TIMEOUT
    )
    entries: list[int] = []
    for message in stream:
        entries += [entry.sequence for entry in message.revocations]
        if message.caught_up:
            break
    stream.cancel()
    assert entries == [int(sequence) + 1]


def test_keys_and_sessions_are_kept(upgraded: Upgraded) -> None:
    listed = upgraded.keys.ListSigningKeys(keys_pb.ListSigningKeysRequest(), timeout=TIMEOUT).signing_keys
    states = {key.key_id: keys_pb.SigningKeyState.Name(key.state) for key in listed}
    assert upgraded.record["keys"].items() <= states.items()
    assert set(states.values()) == {
        "SIGNING_KEY_STATE_PREPARED",
        "SIGNING_KEY_STATE_ACTIVE",
        "SIGNING_KEY_STATE_RETIRED",
        "SIGNING_KEY_STATE_REVOKED",
    }
    ids = upgraded.record["session_ids"]
    for which, revoked in (("kept", False), ("revoked", True)):
        request = sessions_pb.GetSessionRequest(session_id=ids[which])
        session = upgraded.sessions.GetSession(request, timeout=TIMEOUT).session
        assert session.HasField("revoke_time") is revoked
        through = sessions_pb.REVOKED_THROUGH_SESSION if revoked else sessions_pb.REVOKED_THROUGH_UNSPECIFIED
        assert session.revoked_through == through
        assert not session.HasField("created_from")
        assert not session.HasField("last_used_from")


def test_a_session_ended_through_its_client_has_the_time_but_no_reason(upgraded: Upgraded) -> None:
    """A node of 0.1.0 keeps no reason with a floor."""
    token = upgraded.record["revoked"]["client"]["access"]
    session_id = jwt.decode(token, options={"verify_signature": False})["sid"]
    request = sessions_pb.GetSessionRequest(session_id=session_id)
    session = upgraded.sessions.GetSession(request, timeout=TIMEOUT).session
    assert session.revoked_through == sessions_pb.REVOKED_THROUGH_CLIENT
    assert session.revoke_reason == pb.REVOCATION_REASON_UNSPECIFIED
    assert session.create_time.seconds <= session.revoke_time.seconds <= upgraded.record["record_time"]
