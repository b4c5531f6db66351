"""Processes that share one file of tokens, against a real node without a grace period.

There a refresh token that is presented twice ends the session at once, so the session survives only if no two processes
ever sent the same one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grpc

from tests.integration.nodes import nodes
from token_service.client import FileTokenStore, Secret, Tokens
from token_service.v1.token_service_pb2 import CONSISTENCY_STRONG, IssueTokenRequest, ValidateTokenRequest
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

PROCESSES = 4
ROUNDS = 8
KEY = b"0123456789abcdef0123456789abcdef"
WORKER = """
import sys
from pathlib import Path
import grpc
from token_service.client import FileTokenStore, RenewalPolicy, Secret, SyncTokenSource
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

address, path, key, rounds = sys.argv[1:]
with grpc.insecure_channel(address) as channel:
    store = FileTokenStore(Path(path), Secret(key.encode()))
    policy = RenewalPolicy(attempt_timeout=60, give_up_after=600)
    source = SyncTokenSource(TokenServiceStub(channel), client_id="web", store=store, policy=policy)
    token = source.token()
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(rounds)):
        source.invalidate(token)
        token = source.token()
        print(token, flush=True)
    source.close()
"""


def test_processes_that_race_for_renewals_never_present_a_refresh_token_twice(tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path / "tokens", Secret(KEY))
    env = {
        "TOKEN_SERVICE_POLICY__INTERNAL__GRACE_PERIOD": "0s",
        "TOKEN_SERVICE_POLICY__INTERNAL__MAX_RETRIES": "0",
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
    }
    with nodes(1, env) as [node], grpc.insecure_channel(node.grpc_address) as channel:
        service = TokenServiceStub(channel)
        request = IssueTokenRequest(subject="alice", client_id="web", audience=["api"])
        store.save(Tokens.of(service.IssueToken(request)))
        command = [sys.executable, "-c", WORKER, node.grpc_address, str(tmp_path / "tokens"), KEY.decode()]
        workers = [
            subprocess.Popen(
                [*command, str(ROUNDS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(PROCESSES)
        ]
        try:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "ready\n"
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("\n")
                worker.stdin.flush()
            printed = [worker.communicate(timeout=240)[0].split() for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait(60)
        assert [worker.returncode for worker in workers] == [0] * PROCESSES
        assert [len(set(tokens)) for tokens in printed] == [ROUNDS] * PROCESSES
        last = store.load()
        assert last is not None
        verdict = service.ValidateToken(
            ValidateTokenRequest(token=last.access_token, consistency=CONSISTENCY_STRONG)
        )
        assert verdict.active
        assert "refresh_token.reused" not in node.log_text()
