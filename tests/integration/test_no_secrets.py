"""No log line contains a token, a key or a password, for any call and at any log level.

`Node.close` checks the log of every node in these tests; the node here logs as much as possible.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from google.protobuf import struct_pb2

from tests.integration.calls import ACCESS, ID, REFRESH, SESSION, STRONG, Api, refused
from tests.integration.nodes import SECRETS, Node, assert_clean
from token_service.v1 import session_service_pb2, token_service_pb2


@pytest.mark.parametrize(
    ("line", "is_secret"),
    [
        ("token=eyJ" + "a" * 41, True),
        ('"eyJ' + "a" * 24, True),
        ("x_eyJ" + "a" * 10 + "." + "b" * 10, True),
        ("rt_" + "A" * 92, True),
        ("(st_" + "A" * 30 + ")", True),
        ("token: tspat_" + "A" * 95, True),
        ("-rt_" + "A" * 60, True),
        ("-----BEGIN PRIVATE KEY-----", True),
        ("token_id=rt_" + "A" * 19, False),
        ("token_id=AA_st_" + "A" * 16, False),
        ("token_id=AAAeyJ" + "A" * 16, False),
        ("key_id=eyJ" + "A" * 40, False),
        ("key_id=rt_" + "A" * 40 + " state=active", False),
        ("test_" + "a" * 60, False),
    ],
)
def test_the_pattern_finds_secrets_and_no_identifiers(line: str, *, is_secret: bool) -> None:
    assert bool(SECRETS.search(line)) == is_secret


def dump_of_audit_trail(node: Node) -> str:
    """The rows of the tables of the audit trail, as text."""
    with closing(sqlite3.connect(f"file:{node.data_dir / 'token_service.db'}?mode=ro", uri=True)) as database:
        tables = ("audit_events", "audit_chains", "audit_checkpoints", "outbox")
        return "".join(repr(database.execute(f"SELECT * FROM {table}").fetchall()) for table in tables)


@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_the_log_has_the_audit_trail_without_tokens(log_format: str) -> None:
    env = {
        "TOKEN_SERVICE_LOG_LEVEL": "debug",
        "TOKEN_SERVICE_LOG_FORMAT": log_format,
        "TOKEN_SERVICE_POLICY__INTERNAL__GRACE_PERIOD": "0s",
    }
    async with Node(env=env) as node:
        async with Api(node.grpc_address) as api:
            claims = struct_pb2.Struct()
            claims.update({"note": "claim-nobody-needs-in-a-log"})
            issued = await api.issue(
                "logged", token_types=[ACCESS, REFRESH, ID, SESSION], nonce="n" * 20, custom_claims=claims,
                request_id="r" * 20, client_context={"ip_address": "192.0.2.1", "user_agent": "agent forged=line"},
            )  # fmt: skip
            tokens = [issued.access_token, issued.refresh_token, issued.id_token, issued.session_token]
            for token in (*tokens, *(token[:-4] + "AAAA" for token in tokens), tokens[0][:100]):
                await api.why(token, consistency=STRONG)
            refreshed = await api.refresh(issued.refresh_token)
            tokens += [refreshed.access_token, refreshed.refresh_token]
            assert (await refused(api.refresh(issued.refresh_token))).reason == "REFRESH_TOKEN_REUSED"
            failure = await refused(api.issue(subject=tokens[0], custom_claims={"fields": {"sub": {}}}))
            assert not any(token in failure.message for token in tokens)
            for token in tokens:
                # Tokens in the wrong field: as a name, a comment, a cursor.
                is_jwt = token.startswith("eyJ")
                await api.revoke(subject=token[:200] if is_jwt else "someone", comment=token[:500])
                for call in (
                    *(() if is_jwt else (api.revoke(subject=token),)),
                    api.refresh(issued.refresh_token, client_id=token[:200], device_id=token[:200]),
                    api.confirm(token[:100], token),
                    api.sessions.GetSession(session_service_pb2.GetSessionRequest(session_id=token)),
                ):
                    failure = await refused(call)
                    assert token not in failure.message
                request = token_service_pb2.IssueTokenRequest(
                    subject="s", client_id="c", scopes=[token[:100]]
                )
                await api.tokens.IssueToken(request)
                await api.revoke(token=token)
        assert node.terminate() == 0
        log = node.log_text()
        assert_clean(log)
        stored = dump_of_audit_trail(node)
        assert "refresh_token.reused" in stored
        assert "revoked" in stored
        for token in tokens:
            assert token[-40:] not in stored
            assert token[3:43] not in stored
        assert "logged" in log, "the audit trail is missing"
        assert "claim-nobody-needs-in-a-log" not in log
        for token in tokens:
            assert token[-40:] not in log
            assert token[3:43] not in log
