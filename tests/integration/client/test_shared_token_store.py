"""Two callers with one store of tokens against a real node without a grace period: presenting an exchanged refresh
token ends the session immediately.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import grpc

from tests.integration.nodes import nodes
from token_service.client import RenewalPolicy, SyncTokenSource, Tokens
from token_service.v1.token_service_pb2 import CONSISTENCY_STRONG, IssueTokenRequest, ValidateTokenRequest
from token_service.v1.token_service_pb2_grpc import TokenServiceStub


class FileStore:
    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Tokens:
        read = json.loads(self._path.read_text())
        return Tokens(**{**read, "scopes": tuple(read["scopes"])})

    def save(self, tokens: Tokens) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(asdict(tokens)))
        new.replace(self._path)


def test_two_callers_with_one_store_renew_one_session_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    env = {
        "TOKEN_SERVICE_POLICY__INTERNAL__GRACE_PERIOD": "0s",
        "TOKEN_SERVICE_POLICY__INTERNAL__MAX_RETRIES": "0",
    }
    with nodes(1, env) as [node], grpc.insecure_channel(node.grpc_address) as channel:
        service = TokenServiceStub(channel)
        issued = service.IssueToken(IssueTokenRequest(subject="alice", client_id="web", audience=["api"]))
        FileStore(path).save(Tokens.of(issued))
        # A second attempt would present the same refresh token again, so an attempt may take its time.
        policy = RenewalPolicy(attempt_timeout=60, give_up_after=600)
        one, other = (
            SyncTokenSource(service, client_id="web", store=FileStore(path), policy=policy) for _ in range(2)
        )
        assert one.token() == other.token() == issued.access_token
        token, seen = issued.access_token, {issued.refresh_token}
        for renewing, following in ((one, other), (one, other), (other, one), (one, other)):
            refused = renewing.token()
            renewing.invalidate(refused)
            token = renewing.token()
            assert token != refused
            following.invalidate(following.token())
            assert following.token() == token
            seen.add(FileStore(path).load().refresh_token)
        assert len(seen) == 5
        assert service.ValidateToken(ValidateTokenRequest(token=token, consistency=CONSISTENCY_STRONG)).active
        one.close()
        other.close()
