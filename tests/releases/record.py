"""Records a release: `scripts/release-record VERSION`.

Runs a real node of the release on SQLite and on PostgreSQL and lets it store every kind of row. Writes the databases as
SQL, the issued tokens and their fate as JSON, the protos as a `buf` image, and the code as a wheel.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from tests.releases.sql import dump_postgres, postgres_rows, sqlite_rows
from tests.support.deadline import eventually_sync
from tests.support.postgres import PostgresServer
from tests.support.processes import ServiceProcess
from token_service.v1 import (
    key_service_pb2 as keys_pb,
    key_service_pb2_grpc as keys_grpc,
    token_pb2,
    token_service_pb2 as pb,
    token_service_pb2_grpc as tokens_grpc,
)

ROOT = Path(__file__).resolve().parents[2]
DATABASE = "token_service.db"
KEY_FILE = "key-encryption.key"
ISSUER = "https://tokens.example"
_TIMEOUT = 30.0
_CONNECTED = "SELECT connected FROM nodes"


def main() -> int:
    """Record one release."""
    parser = argparse.ArgumentParser(prog="scripts/release-record", description=__doc__)
    parser.add_argument("version", help="such as 0.2.0; names the directory under tests/releases")
    parser.add_argument(
        "--checkout", type=Path, default=ROOT, help="of the release, with its .venv (default: this one)"
    )
    arguments = parser.parse_args()
    checkout: Path = arguments.checkout.resolve()
    python = checkout / ".venv" / "bin" / "python"
    directory = ROOT / "tests" / "releases" / arguments.version
    directory.mkdir(parents=True, exist_ok=True)
    buf = Path(sys.executable).with_name("buf")
    subprocess.run([buf, "build", checkout, "-o", directory / "protos.binpb"], check=True)
    wheel = [python, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", directory, checkout]
    subprocess.run(wheel, check=True)
    record: dict[str, Any] = {"version": arguments.version}
    with tempfile.TemporaryDirectory() as name, PostgresServer() as postgres:
        data = Path(name)
        record["sqlite"] = _fill(python, data, {}, lambda: sqlite_rows(data / DATABASE, _CONNECTED))
        (directory / "sqlite.sql").write_text(_dump_sqlite(data / DATABASE))
        (data / DATABASE).unlink()
        url = postgres.create_database()
        record["postgresql"] = _fill(
            python, data, {"TOKEN_SERVICE_DATABASE_URL": url}, lambda: postgres_rows(url, _CONNECTED)
        )
        (directory / "postgresql.sql").write_text(dump_postgres(url))
        shutil.copy(data / KEY_FILE, directory / "test-key-encryption.key")
    (directory / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"recorded in {directory.relative_to(ROOT)}")
    return 0


def _fill(
    python: Path, data: Path, env: dict[str, str], connected: Callable[[], list[int]]
) -> dict[str, Any]:
    """Fill the database of a node and return the tokens, keys and cursors it answered with."""
    service = ServiceProcess(
        env={"TOKEN_SERVICE_ISSUER": ISSUER, "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", **env},
        data_dir=data,
        command=(str(python), "-P", "-m", "token_service", "serve"),
    )
    with service, grpc.insecure_channel(service.grpc_address) as channel:
        tokens: Any = tokens_grpc.TokenServiceStub(channel)
        keys: Any = keys_grpc.KeyServiceStub(channel)
        found = _issue_and_revoke(tokens)
        successor = keys.PrepareSigningKey(keys_pb.PrepareSigningKeyRequest(), timeout=_TIMEOUT)
        activate = keys_pb.ActivateSigningKeyRequest(key_id=successor.signing_key.key_id, force=True)
        keys.ActivateSigningKey(activate, timeout=_TIMEOUT)  # the first key retires
        found["active"]["next key"] = _named(_issue(tokens, "gina"))
        keys.PrepareSigningKey(keys_pb.PrepareSigningKeyRequest(algorithm="RS256"), timeout=_TIMEOUT)
        revoked = keys.PrepareSigningKey(keys_pb.PrepareSigningKeyRequest(), timeout=_TIMEOUT)
        keys.RevokeSigningKey(
            keys_pb.RevokeSigningKeyRequest(key_id=revoked.signing_key.key_id, comment="recorded"),
            timeout=_TIMEOUT,
        )
        stream = tokens.StreamRevocations(
            pb.StreamRevocationsRequest(subscriber_id="recorded"), timeout=_TIMEOUT
        )
        found["head"] = next(message.cursor for message in stream if message.caught_up)
        confirmed = pb.ConfirmRevocationsRequest(subscriber_id="recorded", applied_cursor=found["head"])
        assert tokens.ConfirmRevocations(confirmed, timeout=_TIMEOUT).head_cursor == found["head"]
        eventually_sync(lambda: connected() == [1], timeout=_TIMEOUT)
        found["keys"] = {
            key.key_id: keys_pb.SigningKeyState.Name(key.state)
            for key in keys.ListSigningKeys(keys_pb.ListSigningKeysRequest(), timeout=_TIMEOUT).signing_keys
        }
        assert set(found["keys"].values()) == set(keys_pb.SigningKeyState.keys()[1:])
        found["record_time"] = round(time.time())
        service.kill()  # a node that stops in order deletes its report
    return found


def _issue(tokens: Any, subject: str, client_id: str = "web", **fields: Any) -> pb.IssueTokenResponse:
    request = pb.IssueTokenRequest(
        subject=subject,
        client_id=client_id,
        audience=["https://api.example"],
        scopes=["read", "write"],
        token_types=[
            token_pb2.TOKEN_TYPE_ACCESS,
            token_pb2.TOKEN_TYPE_REFRESH,
            token_pb2.TOKEN_TYPE_ID,
            token_pb2.TOKEN_TYPE_SESSION,
        ],
        **fields,
    )
    response: pb.IssueTokenResponse = tokens.IssueToken(request, timeout=_TIMEOUT)
    return response


def _named(response: pb.IssueTokenResponse) -> dict[str, str]:
    return {
        "access": response.access_token,
        "id": response.id_token,
        "session": response.session_token,
        "refresh": response.refresh_token,
    }


def _issue_and_revoke(tokens: Any) -> dict[str, Any]:
    def revoke(**target: Any) -> str:
        request = pb.RevokeTokenRequest(comment="recorded", **target)
        cursor: str = tokens.RevokeToken(request, timeout=_TIMEOUT).cursor
        return cursor

    kept = _issue(tokens, "alice", device_id="phone-1", custom_claims={"tier": "gold"}, request_id="once")
    before = _issue(tokens, "bob")
    renewed = tokens.RefreshToken(
        pb.RefreshTokenRequest(refresh_token=before.refresh_token, client_id="web"), timeout=_TIMEOUT
    )
    by_session, by_subject, by_client, one = (
        _issue(tokens, "carol"),
        _issue(tokens, "dave"),
        _issue(tokens, "erin", "kiosk"),
        _issue(tokens, "frank"),
    )
    revoke(session_id=by_session.session_id)
    revoke(subject="dave")
    revoke(client_id="kiosk")
    revoke(token_id=one.token_id)
    return {
        "active": {
            "kept": _named(kept),
            "renewed": {"access": renewed.access_token, "refresh": renewed.refresh_token},
        },
        "superseded": before.refresh_token,
        "revoked": {
            "session": _named(by_session),
            "subject": _named(by_subject),
            "client": _named(by_client),
            "token": {"access": one.access_token},
        },
        "session_ids": {"kept": kept.session_id, "revoked": by_session.session_id},
    }


def _dump_sqlite(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        return "\n".join(connection.iterdump()) + "\n"


if __name__ == "__main__":
    sys.exit(main())
