"""The validators in Node and Go follow a real service: revocations, crashes, faults of the network, keys, another log."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Awaitable, Iterator

import jwt
import pytest

from tests.e2e.foreign_validator import BOUND, ForeignValidator, issued, revoked
from tests.faults.proxy import Proxy
from tests.integration.calls import ACCESS, Api
from tests.integration.keys.operator import Operator
from tests.integration.oauth.node import OAuthNode
from tests.support import golang, node as nodejs
from tests.support.deadline import eventually, eventually_sync
from tests.support.token_mint import b64
from token_service.v1.key_service_pb2 import RevokeSigningKeyRequest


@pytest.fixture
def service() -> Iterator[OAuthNode]:
    """A node that a test may kill."""
    with OAuthNode() as node:
        yield node


@pytest.fixture(scope="module", params=["node", "go"])
def command(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of a validator."""
    if request.param == "node":
        nodejs.install(nodejs.EXAMPLE)
        return [str(nodejs.find_node().node), str(nodejs.DIRECTORY / "validator.mjs")]
    program = tmp_path_factory.mktemp("go") / "follow"
    golang.run("build", "-o", program, "./cmd/follow")
    return [str(program)]


def test_go_package_passes_its_tests_and_the_vectors() -> None:
    assert golang.unformatted() == []
    golang.run("vet", "./...")
    golang.run("test", "-count=1", "./...")
    readme = (golang.EXAMPLE / "README.md").read_text()
    program = (golang.EXAMPLE / "example_test.go").read_text()
    (shown,) = re.findall(r"^```go\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert set(map(str.strip, shown.splitlines())) <= set(map(str.strip, program.splitlines()))


def test_confirmed_revocation_is_refused_at_once(service: OAuthNode, command: list[str]) -> None:
    token, other = asyncio.run(issued(service)), asyncio.run(issued(service, "bob"))
    with ForeignValidator(command, service) as validator:
        validator.wait_ready()
        assert validator.verdict(token) == "ACTIVE"
        assert asyncio.run(revoked(service, subject="alice")) == (1, 1)
        assert validator.verdict(token) == "REVOKED"
        assert validator.verdict(other) == "ACTIVE"
        assert validator.verdict(asyncio.run(issued(service))) == "ACTIVE"


def test_killed_service_ends_freshness_and_the_stream_resumes_after_its_restart(
    service: OAuthNode, command: list[str]
) -> None:
    tokens = {name: asyncio.run(issued(service, name)) for name in ("alice", "bob", "carol")}
    with ForeignValidator(command, service) as validator:
        validator.wait_ready()
        asyncio.run(revoked(service, subject="alice"))
        before = validator.status
        service.kill()
        eventually_sync(lambda: validator.verdict(tokens["carol"]) == "STALE")
        assert validator.verdict(tokens["alice"]) == "REVOKED"
        assert validator.status["lastError"] is not None
        service.start()
        asyncio.run(revoked(service, subject="bob"))
        # The restarted service may have answered before the validator was connected again.
        eventually_sync(lambda: validator.verdict(tokens["bob"]) == "REVOKED")
        eventually_sync(lambda: validator.verdict(tokens["carol"]) == "ACTIVE")
        assert validator.verdict(tokens["alice"]) == "REVOKED"
        after = validator.status
        assert after["resets"] == before["resets"] == 1
        assert after["streams"] > before["streams"]


def test_silent_service_ends_freshness(service: OAuthNode, command: list[str]) -> None:
    token = asyncio.run(issued(service))
    with ForeignValidator(command, service) as validator:
        validator.wait_ready()
        service.pause()
        eventually_sync(lambda: validator.verdict(token) == "STALE")
        service.resume()
        eventually_sync(lambda: validator.verdict(token) == "ACTIVE")


@pytest.mark.parametrize("fault", ["hold", "cut", "stop"])
async def test_token_is_not_accepted_a_bound_after_its_revocation(
    service: OAuthNode, command: list[str], fault: str
) -> None:
    """The time of a verdict is read before the question, that of the revocation after its acknowledgment."""
    token, other = await issued(service), await issued(service, "bob")
    late: list[float] = []
    async with Proxy(service.grpc_address) as proxy:
        validator = await asyncio.to_thread(ForeignValidator, command, service, proxy.address)

        async def verdict_in_time(token: str) -> str:
            asked = time.monotonic()
            verdict = await asyncio.to_thread(validator.verdict, token)
            if verdict == "ACTIVE" and asked >= acknowledged + BOUND:
                late.append(asked - acknowledged)
            return verdict

        with validator:
            await asyncio.to_thread(validator.wait_ready)
            assert await asyncio.to_thread(validator.verdict, token) == "ACTIVE"
            if fault == "stop":
                validator.send_signal(signal.SIGSTOP)
            else:
                getattr(proxy, fault)()
            async with Api(service.grpc_address) as api:
                await api.revoke(subject="alice")
            acknowledged = time.monotonic()
            if fault == "stop":
                await asyncio.sleep(BOUND)  # answers to probes wait in the buffers of the stopped process
                validator.send_signal(signal.SIGCONT)
            else:
                await eventually(lambda: _is(verdict_in_time(token), "STALE"))
                proxy.heal()
            await eventually(lambda: _is(verdict_in_time(token), "REVOKED"))
            await eventually(lambda: _is(asyncio.to_thread(validator.verdict, other), "ACTIVE"))
    assert not late, "seconds after the revocation at which its token was accepted"


async def _is(verdict: Awaitable[str], expected: str) -> bool:
    return await verdict == expected


def test_key_that_replaces_a_revoked_one_is_accepted_at_once(service: OAuthNode, command: list[str]) -> None:
    async def replace_key(key_id: str) -> str:
        async with Api(service.grpc_address) as api:
            await api.keys.RevokeSigningKey(RevokeSigningKeyRequest(key_id=key_id), timeout=60)
            return (await api.issue(token_types=[ACCESS])).access_token

    token = asyncio.run(issued(service))
    key_id = jwt.get_unverified_header(token)["kid"]
    with ForeignValidator(command, service) as validator:
        validator.wait_ready()
        assert validator.verdict(token) == "ACTIVE"
        later = asyncio.run(replace_key(key_id))
        # The stream may bring the new key after the token; then the validator asks for it.
        assert validator.verdict(later) == "ACTIVE"
        eventually_sync(lambda: validator.verdict(token) in {"REVOKED", "UNKNOWN_KEY"})
        forged = later.replace(later.split(".")[0], b64(b'{"typ":"at+jwt","alg":"ES256","kid":"unknown"}'))
        assert validator.verdict(forged) == "UNKNOWN_KEY"


def test_another_log_is_read_from_its_snapshot(service: OAuthNode, command: list[str]) -> None:
    token = asyncio.run(issued(service))
    with ForeignValidator(command, service) as validator:
        validator.wait_ready()
        assert validator.verdict(token) == "ACTIVE"
        before = validator.status
        service.terminate()
        settings = {**service._settings, "TOKEN_SERVICE_DATA_DIR": str(service.data_dir)}
        epoch = before["cursor"].partition(":")[0]
        asyncio.run(Operator(settings, group="log").run("renew", "--yes", "--epoch", epoch))
        service.start()
        # A renewed log revokes every token that was issued before.
        eventually_sync(lambda: validator.verdict(token) == "REVOKED")
        later = asyncio.run(issued(service))
        eventually_sync(lambda: validator.verdict(later) == "ACTIVE")
        after = validator.status
        assert after["resets"] == before["resets"] + 1
        assert after["cursor"].partition(":")[0] != before["cursor"].partition(":")[0]


def test_snapshot_with_packed_ids_revokes_their_tokens(service: OAuthNode, command: list[str]) -> None:
    async def prepare() -> list[str]:
        async with Api(service.grpc_address) as api:
            answers = [await api.issue(f"user-{number}") for number in range(6)]
            for answer in answers[:2]:
                await api.revoke(token_id=answer.token_id)
            await api.revoke(token=answers[2].access_token)
            await api.revoke(session_id=answers[3].session_id)
            await api.revoke(subject="user-4")
            return [answer.access_token for answer in answers]

    tokens = asyncio.run(prepare())
    with ForeignValidator(command, service) as validator:
        validator.wait_ready()
        assert [validator.verdict(token) for token in tokens] == ["REVOKED"] * 5 + ["ACTIVE"]
