"""The validators of the directory examples, each in a process that a test asks for verdicts."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from typing import Any, Self

from tests.integration.calls import ACCESS, Api
from tests.integration.oauth.node import OAuthNode
from tests.support.deadline import eventually_sync
from tests.support.lines import read_answer

BOUND = 2.0


class ForeignValidator:
    """A validator for the audience `api` in its own process, which answers a question a line."""

    def __init__(self, command: Sequence[str], service: OAuthNode, target: str = "") -> None:
        options = {
            "issuer": service.issuer,
            "target": target or service.grpc_address,
            "audience": "api",
            "bound": BOUND,
            "subscriberId": "foreign-validator",
        }
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([*command, json.dumps(options)], **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        """End the process. It ends by itself once its input has ended, so no call and no timer holds it."""
        with self._process as process:
            try:
                process.communicate(timeout=60)
            finally:
                process.kill()
        assert process.returncode == 0

    def verdict(self, token: str) -> str:
        return str(self._ask({"token": token})["verdict"])

    @property
    def status(self) -> dict[str, Any]:
        return self._ask({})

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait_ready(self) -> None:
        eventually_sync(lambda: self.status["isReady"])

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(
            read_answer(self._process.stdout, "a verdict or the status of the validator")
        )
        return answer


async def issued(node: OAuthNode, subject: str = "alice", **fields: Any) -> str:
    async with Api(node.grpc_address) as api:
        return (await api.issue(subject, token_types=[ACCESS], **fields)).access_token


async def revoked(node: OAuthNode, **target: Any) -> tuple[int, int]:
    """Revoke a target; return the numbers of subscribers that were connected and that confirmed it."""
    async with Api(node.grpc_address) as api:
        answer = await api.revoke(wait=60, **target)
    return answer.subscribers_connected, answer.subscribers_applied
