"""A service whose keys are made in an HSM and never leave it: SoftHSM, from the first start over rotations to its
absence.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import grpc
import pytest
from cryptography import x509
from jwt import get_unverified_header

from tests.integration.calls import ACCESS, Api, Failure, refused
from tests.integration.keys.authorities import Authority
from tests.integration.keys.operator import Operator
from tests.integration.nodes import Node
from tests.support.deadline import eventually
from tests.support.memory_stores import MemoryStores
from tests.support.softhsm import SoftHsmToken
from tests.unit.core.key_nodes import PERIOD, KeyNode, NodeClock, TrueTime
from token_service.client import ServiceIssuer, TokenValidator, ValidatorConfig
from token_service.core.keys.lifecycle import PUBLISHED_AFTER_RETIREMENT
from token_service.core.keys.store import StoredSigningKey
from token_service.errors import SigningUnavailableError
from token_service.signers.hsm.pkcs11 import Pkcs11Keys
from token_service.signers.local import LocalKeys
from token_service.signers.providers import SigningProviders
from token_service.tokens.secret import Secret
from token_service.v1 import key_service_pb2

GRACE = 1.0
"""Seconds in which a used refresh token still gets its successor."""


@pytest.fixture
def token() -> Iterator[SoftHsmToken]:
    with SoftHsmToken() as made:
        yield made


@pytest.fixture
def node(token: SoftHsmToken) -> Iterator[Node]:
    env = {
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        "TOKEN_SERVICE_KEY_CHECK_INTERVAL": "100ms",
        "TOKEN_SERVICE_KEY_ANNOUNCE_TIME": "1s",
        "TOKEN_SERVICE_PKCS11_MODULE": token.module,
        "TOKEN_SERVICE_PKCS11_TOKEN": token.label,
        "TOKEN_SERVICE_PKCS11_PIN": token.pin,
        "TOKEN_SERVICE_POLICY__INTERNAL__GRACE_PERIOD": f"{GRACE:.0f}s",
        **token.environment,
    }
    made = Node(env=env, ready_timeout=60)
    made._known_secrets.add(token.pin)
    with made:
        yield made


@pytest.fixture
def operator(node: Node) -> Operator:
    return Operator({**node._settings, "TOKEN_SERVICE_DATA_DIR": str(node.data_dir)})


@pytest.fixture
async def api(node: Node) -> AsyncIterator[Api]:
    async with Api(node.grpc_address) as made:
        yield made


async def list_keys(api: Api) -> dict[str, key_service_pb2.SigningKey]:
    page = await api.keys.ListSigningKeys(key_service_pb2.ListSigningKeysRequest(), timeout=30)
    return {key.key_id: key for key in page.signing_keys}


async def in_state(api: Api, state: int, algorithm: str = "ES256") -> str:
    found = [
        key for key in (await list_keys(api)).values() if key.state == state and key.algorithm == algorithm
    ]
    return found[0].key_id if found else ""


async def signs(api: Api) -> str:
    token = (await api.issue(token_types=[ACCESS])).access_token
    return str(get_unverified_header(token)["kid"])


@pytest.mark.slow
async def test_keys_in_the_module_are_made_rotated_certified_and_revoked(
    node: Node, api: Api, operator: Operator, token: SoftHsmToken
) -> None:
    issuer = ServiceIssuer(issuer="http://127.0.0.1:8080", target=node.grpc_address)
    async with TokenValidator(ValidatorConfig(issuers=[issuer], audience="api")) as validator:
        assert await validator.wait_ready(60)
        first = await signs(api)
        issued = await api.issue()
        assert (await validator.validate(issued.access_token)).subject == "alice"
        await eventually(lambda: in_state(api, key_service_pb2.SIGNING_KEY_STATE_PREPARED))
        spare = await in_state(api, key_service_pb2.SIGNING_KEY_STATE_PREPARED)

        # An operator rotates over gRPC; both keys are good.
        request = key_service_pb2.ActivateSigningKeyRequest(key_id=spare, force=True)
        await api.keys.ActivateSigningKey(request, timeout=30)
        assert await signs(api) == spare
        assert (await validator.validate((await api.issue()).access_token)).subject == "alice"
        assert (await validator.validate(issued.access_token)).subject == "alice"

        # From the command line: make a key in the module, certify it, activate it.
        shown = json.loads(await operator.run("prepare", "--format", "json"))
        assert (shown["provider"], shown["wrapping_key_id"]) == ("pkcs11", "")
        request_pem = await operator.run("csr", shown["key_id"], "--subject", "CN=tokens.example.com")
        csr = x509.load_pem_x509_csr(request_pem.encode())
        assert csr.is_signature_valid
        chain = Authority("Root").certify(csr)
        await operator.run("import-certificate", shown["key_id"], "-", stdin=chain)
        await operator.run("activate", shown["key_id"], "--force")
        await eventually(lambda: _is_signing(api, shown["key_id"]))
        assert (
            await operator.run("rewrap")
            == "all keys were already encrypted with the first key-encryption key"
        )

        # The algorithm changes.
        node._settings["TOKEN_SERVICE_SIGNING_ALGORITHM"] = "RS256"
        await asyncio.to_thread(node.restart)
        await eventually(lambda: in_state(api, key_service_pb2.SIGNING_KEY_STATE_ACTIVE, "RS256"))
        changed = await api.issue()
        assert get_unverified_header(changed.access_token)["alg"] == "RS256"
        assert await validator.wait_ready(60)
        assert (await validator.validate(changed.access_token)).subject == "alice"
        assert (await validator.validate(issued.access_token)).subject == "alice"

        # The signing key is revoked.
        killed = get_unverified_header(changed.access_token)["kid"]
        await api.keys.RevokeSigningKey(key_service_pb2.RevokeSigningKeyRequest(key_id=killed), timeout=60)
        assert await api.why(changed.access_token)
        assert await signs(api) != killed
        assert not await api.why(issued.access_token)

    keys = await list_keys(api)
    assert first in keys
    assert {key.provider for key in keys.values()} == {"pkcs11"}
    connection = sqlite3.connect(node.data_dir / "token_service.db")
    rows = connection.execute("SELECT provider, private_key, wrapping_key_id FROM signing_keys").fetchall()
    connection.close()
    # The database has neither private keys nor a key that could encrypt them.
    assert len(rows) == len(keys)
    assert set(rows) == {("pkcs11", b"", "")}
    assert token.pin not in node.log_text()


async def _is_signing(api: Api, key_id: str) -> bool:
    return await signs(api) == key_id


@pytest.mark.slow
async def test_an_absent_hsm_stops_only_operations_that_sign(
    node: Node, api: Api, operator: Operator, token: SoftHsmToken
) -> None:
    issued = await api.issue()
    await eventually(lambda: in_state(api, key_service_pb2.SIGNING_KEY_STATE_PREPARED))
    token.take_away()
    failure = await refused(api.issue())
    away = time.monotonic()
    assert (failure.code.name, failure.reason) == ("UNAVAILABLE", "SIGNING_UNAVAILABLE")
    assert failure.retry_after
    for _ in range(3):
        failure = await refused(api.refresh(issued.refresh_token))
        assert failure.reason == "SIGNING_UNAVAILABLE"
    # Operations without a private key continue: validating, publishing, revoking.
    assert not await api.why(issued.access_token)
    assert len(await list_keys(api)) == 2
    active = await in_state(api, key_service_pb2.SIGNING_KEY_STATE_ACTIVE)
    assert active in await operator.run("list")
    assert (await operator.says("prepare")).code in {1, 2, 5}
    await operator.run("revoke", active)
    await eventually(lambda: _is_refused(api, issued.access_token))

    await eventually(lambda: time.monotonic() > away + GRACE)
    token.bring_back()
    again = await eventually(lambda: _issue(api))
    assert get_unverified_header(again.access_token)["kid"] != active
    assert not await api.why(again.access_token)
    # The failed calls did not use up the refresh token, for any length of absence.
    assert (await api.refresh(issued.refresh_token)).access_token
    assert node.log_text().count("the HSM is away") == 1
    assert node.log_text().count("the HSM is back") == 1


@pytest.mark.slow
async def test_calls_in_progress_at_the_absence_end_no_session(
    node: Node, api: Api, token: SoftHsmToken
) -> None:
    """Sessions refresh without a pause. A client that gets an error keeps its refresh token, which stays valid."""
    current = [(await api.issue(f"user-{number}")).refresh_token for number in range(40)]
    exchanged: Counter[int] = Counter()
    refused_in_turn: Counter[int] = Counter()
    ended: dict[int, str] = {}

    async def client(number: int) -> None:
        while number not in ended:
            try:
                current[number] = (await api.refresh(current[number])).refresh_token
                exchanged[number] += 1
            except grpc.aio.AioRpcError as error:
                failure = Failure.of(error)
                refused_in_turn[number] += 1
                if failure.reason != "SIGNING_UNAVAILABLE":
                    ended[number] = failure.reason
                await asyncio.sleep(0.1)

    def all_have(what: Counter[int], times: int) -> bool:
        return all(what[number] >= times for number in range(len(current))) or bool(ended)

    clients = [asyncio.create_task(client(number)) for number in range(len(current))]
    try:
        for _ in range(2):
            exchanged.clear()
            refused_in_turn.clear()
            await eventually(lambda: all_have(exchanged, 2))
            token.take_away()
            await eventually(lambda: all_have(refused_in_turn, 1))
            await asyncio.sleep(2 * GRACE)  # the HSM is away for longer than the grace period
            token.bring_back()
            exchanged.clear()
            await eventually(lambda: all_have(exchanged, 1))
            assert ended == {}
    finally:
        for task in clients:
            task.cancel()
        await asyncio.wait(clients)


@pytest.mark.slow
async def test_a_purged_key_is_deleted_from_the_module(
    token: SoftHsmToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in token.environment.items():
        monkeypatch.setenv(name, value)
    pin = Secret(token.pin.encode())
    async with LocalKeys() as local, Pkcs11Keys(token.module, token.label, pin, timeout=30) as module:
        providers = SigningProviders(local, module)
        clock = NodeClock(TrueTime())
        keys = KeyNode(MemoryStores(clock), clock, factory=providers)
        await keys.start()
        first = keys.keyring.signer()
        assert await first.sign(b"x")
        await keys.pass_time(PERIOD, look=2)
        second = keys.keyring.signer()
        assert second.key_id != first.key_id
        assert await first.sign(b"x")  # retired but not yet deleted
        await keys.pass_time(PUBLISHED_AFTER_RETIREMENT)
        assert first.key_id not in await keys.states()
        with pytest.raises(SigningUnavailableError, match="has no key"):
            await providers.open_signer(_row(keys, first.key_id), None).sign(b"x")
        assert await second.sign(b"x")
        assert await keys.keyring.open_signer((await keys.only("prepared")).key_id).sign(b"x")


def _row(keys: KeyNode, key_id: str) -> StoredSigningKey:
    return replace(keys.keyring.signing_keys()[0], key_id=key_id)


async def _is_refused(api: Api, token: str) -> bool:
    return bool(await api.why(token))


async def _issue(api: Api):
    try:
        return await api.issue()
    except grpc.aio.AioRpcError:
        return None
