"""Every `token-service keys` command on the database of a running node: effects, output, refusals, and the node's
reaction.
"""

from __future__ import annotations

import json
import sqlite3
from base64 import b64encode
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from jwt import get_unverified_header

from tests.integration.calls import ACCESS, Api, Follower
from tests.integration.keys.authorities import Authority
from tests.integration.keys.conftest import StartService
from tests.integration.keys.operator import Operator
from tests.integration.nodes import Node, key_encryption_key
from tests.support.deadline import eventually
from token_service.cli import cli
from token_service.v1 import key_service_pb2

NO_SUCH_KEY = "Error: no signing key has this id; `token-service keys list` shows all"
COMMANDS = ["list", "prepare", "activate", "retire", "revoke", "rewrap", "csr", "import-certificate"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(command: str) -> None:
    result = CliRunner().invoke(cli, ["keys", command, "--help"], prog_name="token-service")
    assert result.exit_code == 0
    assert f"token-service keys {command}" in result.stdout.split("Example", maxsplit=1)[1]
    assert command in CliRunner().invoke(cli, ["keys", "--help"], prog_name="token-service").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["activate"],
        ["prepare", "--algorithm", "HS256"],
        ["prepare", "--rsa-bits", "1024"],
        ["csr", "x"],
        ["import-certificate", "x", "no-such-file"],
        ["revoke", "x", "--wait", "-1"],
        ["list", "--state", "lost"],
    ],
    ids=" ".join,
)
async def test_a_wrong_command_line_is_exit_code_2(arguments: list[str]) -> None:
    assert (await Operator({}).says(*arguments)).code == 2


async def published(api: Api) -> dict[str, key_service_pb2.JsonWebKey]:
    answer = await api.keys.GetKeySet(key_service_pb2.GetKeySetRequest(), timeout=30)
    return {key.kid: key for key in answer.key_set.keys}


async def signs(api: Api) -> str:
    """Return the key that signs now."""
    token = (await api.issue(token_types=[ACCESS])).access_token
    return str(get_unverified_header(token)["kid"])


async def test_a_key_is_prepared_activated_and_retired(start_service: StartService) -> None:
    node, operator = start_service(KEY_ANNOUNCE_TIME="1h")
    async with Api(node.grpc_address) as api:
        first = await operator.only("active")
        await eventually(lambda: operator.keys("prepared"))  # the node has made a spare key
        spare = await operator.only("prepared")
        key = await operator.run("prepare", "--format", "id")
        await eventually(lambda: _publishes(api, key))

        refusal = await operator.refused("activate", key)
        assert refusal.startswith(f"Error: key {key} is published for 3600 s before it signs; 3")
        refusal = await operator.refused("retire", first)
        assert refusal.startswith(f"Error: key {spare} is published for 3600 s before it signs; 3")
        assert await operator.only("active") == first

        shown = json.loads(await operator.run("activate", key, "--force", "--format", "json"))
        assert (shown["key_id"], shown["state"], shown["algorithm"]) == (key, "active", "ES256")
        assert shown["activate_time"]
        again = await operator.run("activate", key)
        assert again.splitlines()[1].split()[:3] == [key, "ES256", "active"]
        await eventually(lambda: _signs(api, key))
        assert await operator.only("retired") == first
        assert first in await published(api)

        # The operator overrides the service's setting for how long validators keep a key set.
        shown = json.loads(await operator.run("retire", key, "--format", "json", KEY_ANNOUNCE_TIME="0s"))
        assert shown["state"] == "retired"
        assert await operator.run("retire", key, "--format", "id") == key
        await eventually(lambda: _signs(api, spare))
        assert await operator.run("list", "--state", "retired", "--format", "id") in {
            f"{key}\n{first}",
            f"{first}\n{key}",
        }
        assert await operator.refused("activate", key) == "Error: the key is retired, not prepared"


async def _publishes(api: Api, key_id: str) -> bool:
    return key_id in await published(api)


async def _signs(api: Api, key_id: str) -> bool:
    return await signs(api) == key_id


async def test_invalid_commands_are_refused(start_service: StartService) -> None:
    _, operator = start_service()
    active = await operator.only("active")
    for command in (
        ["activate", "unknown"],
        ["retire", "unknown"],
        ["revoke", "unknown"],
        ["csr", "unknown", "--subject", "CN=x"],
        ["import-certificate", "unknown", "-"],
    ):
        assert await operator.refused(*command, code=4) == NO_SUCH_KEY
    assert "comment: is longer than 512 bytes" in await operator.refused(
        "revoke", active, "--comment", "x" * 600
    )
    other = await operator.run("prepare", "--algorithm", "EdDSA", "--format", "id")
    refusal = await operator.refused("activate", other, "--force")
    assert refusal.endswith("change the setting TOKEN_SERVICE_SIGNING_ALGORITHM to activate the key")
    said = await operator.says("list", KEY_ENCRYPTION_KEY=key_encryption_key())
    assert said.code == 2
    assert "add the missing key to TOKEN_SERVICE_KEY_ENCRYPTION_KEY or _FILE" in said.err


async def test_a_key_id_that_begins_with_a_dash_is_accepted(start_service: StartService) -> None:
    """One key id in 64 does, because key ids are thumbprints in base64url."""
    _, operator = start_service()
    key_id = "-hE9KpmPZRDAt9s56vUatZZiBbOSZFWP_YlHvkXmc--"
    assert len(key_id) == 43
    for arguments in (
        ["activate", key_id, "--force"],
        ["activate", "--force", key_id],
        ["retire", key_id],
        ["revoke", key_id, "--comment", "x"],
        ["csr", key_id, "--subject", "CN=x"],
        ["import-certificate", key_id, "-"],
    ):
        assert await operator.refused(*arguments, code=4) == NO_SUCH_KEY


async def test_a_database_without_keys_is_refused(tmp_path: Path) -> None:
    operator = Operator({"TOKEN_SERVICE_DATA_DIR": str(tmp_path)})
    said = await operator.says("list")
    assert said.code == 2
    assert "Traceback" not in said.err
    await operator.migrate()
    said = await operator.says("list")
    assert said.code == 2
    assert said.err.endswith(
        "Error: the database has no keys yet; the first start of the service makes them\n"
    )


async def test_prepare_makes_rsa_keys_of_the_requested_size(start_service: StartService) -> None:
    node, operator = start_service(SIGNING_RSA_BITS="3072")
    async with Api(node.grpc_address) as api:
        for arguments, size in (([], 384), (["--rsa-bits", "2048"], 256), (["--rsa-bits", "4096"], 512)):
            key = await operator.run("prepare", "--algorithm", "RS256", *arguments, "--format", "id")
            await eventually(partial(_publishes, api, key))
            modulus = (await published(api))[key].n
            assert len(modulus) * 6 // 8 == size


async def test_a_revoked_key_is_rejected_by_the_node_and_its_validators(start_service: StartService) -> None:
    node, operator = start_service()
    async with Api(node.grpc_address) as api:
        await eventually(lambda: operator.keys("prepared"))
        spare = await operator.only("prepared")
        token = (await api.issue()).access_token
        key = await operator.only("active")
        async with Follower(api, subscriber_id="gateway", confirm=api) as follower:
            await eventually(lambda: follower.caught_up and reported(node))
            said = await operator.says("revoke", key, "--comment", "stolen", "--wait", "20", "--format", "id")
            assert said.code == 0, said
            assert said.out == f"{key}\n"
            assert "1 of 1 connected subscribers have confirmed" in said.err
            assert [entry.key_id for entry in follower.entries] == [key]
            await eventually(lambda: spare in (kids := _kids(follower)) and key not in kids)
        assert await api.why(token) in {"REVOKED", "UNKNOWN_KEY"}
        assert await signs(api) == spare
        assert await operator.run("revoke", key, "--format", "id") == key
        assert key not in await published(api)
        assert await operator.refused("activate", key) == "Error: the key is revoked, not prepared"
        assert await operator.refused("csr", key, "--subject", "CN=x") == "Error: the key is revoked"


def _kids(follower: Follower) -> set[str]:
    """Return the keys of the last published set."""
    return {each.kid for each in follower.key_sets[-1].keys}


async def test_a_revocation_without_every_confirmation_is_reported(start_service: StartService) -> None:
    node, operator = start_service()
    async with Api(node.grpc_address) as api, Follower(api, subscriber_id="silent") as follower:
        await eventually(lambda: follower.caught_up and reported(node))
        key = await operator.only("active")
        said = await operator.says("revoke", key, "--wait", "0.5")
        assert said.code == 6
        assert "0 of 1 connected subscribers have confirmed" in said.err
        assert await operator.only("revoked") == key


def reported(node: Node) -> int:
    """Return the number of validators that the node has reported, which it does several times a second."""
    connection = sqlite3.connect(node.data_dir / "token_service.db", timeout=30)
    try:
        return int(connection.execute("SELECT coalesce(sum(connected), 0) FROM nodes").fetchone()[0])
    finally:
        connection.close()


async def test_the_key_encryption_key_changes_while_the_service_runs(start_service: StartService) -> None:
    """As the operator's page says: both keys on every node, then the new one first, then rewrap, then drop the old key."""
    old, new = key_encryption_key(), key_encryption_key()
    node, operator = start_service(KEY_ENCRYPTION_KEY=old)
    await eventually(lambda: operator.keys("prepared"))
    async with Api(node.grpc_address) as api:
        issued = await api.issue()
        for value in (f"{old},{new}", f"{new},{old}"):
            node._settings["TOKEN_SERVICE_KEY_ENCRYPTION_KEY"] = value
            node._known_secrets |= {old, new}
            node.restart()
        operator.env["TOKEN_SERVICE_KEY_ENCRYPTION_KEY"] = f"{new},{old}"
        assert (
            await operator.run("rewrap") == "4 keys were encrypted again, with the first key-encryption key"
        )
        assert (
            await operator.run("rewrap")
            == "all keys were already encrypted with the first key-encryption key"
        )
        operator.env["TOKEN_SERVICE_KEY_ENCRYPTION_KEY"] = new
        assert len({key["wrapping_key_id"] for key in await operator.keys()}) == 1
        assert not await api.why(issued.access_token)
        node._settings["TOKEN_SERVICE_KEY_ENCRYPTION_KEY"] = new
        node.restart()
        assert not await api.why(issued.access_token)
        assert (await api.refresh(issued.refresh_token)).refresh_token
        assert not await api.why((await api.issue()).access_token)


async def test_a_certificate_from_request_to_key_set(start_service: StartService, tmp_path: Path) -> None:
    node, operator = start_service()
    key = await operator.only("active")
    request = tmp_path / "request.pem"
    subject = "CN=tokens.example.com,O=Example"
    assert not await operator.run("csr", key, "--subject", subject, "--out", str(request))
    csr = x509.load_pem_x509_csr(request.read_bytes())
    assert csr.is_signature_valid
    assert csr.subject.rfc4514_string() == subject
    chain = Authority("Root").certify(csr)

    refusal = await operator.refused("csr", key, "--subject", "nonsense")
    assert refusal.startswith("Error: 'nonsense' is not a subject")
    spare = (await operator.run("prepare", "--format", "id")).strip()
    (tmp_path / "chain.pem").write_text(chain)
    refusal = await operator.refused("import-certificate", spare, str(tmp_path / "chain.pem"))
    assert refusal == f"Error: {tmp_path / 'chain.pem'}: none of the certificates is for this signing key"
    assert "not certificates in PEM" in await operator.refused("import-certificate", key, "-", stdin="x")

    shown = json.loads(await operator.run("import-certificate", key, "-", "--format", "json", stdin=chain))
    assert (shown["key_id"], shown["certificates"]) == (key, 2)
    assert await operator.run("import-certificate", key, str(tmp_path / "chain.pem"), "--format", "id") == key
    expected = [
        b64encode(certificate.public_bytes(Encoding.DER)).decode()
        for certificate in x509.load_pem_x509_certificates(chain.encode())
    ]
    async with Api(node.grpc_address) as api:
        await eventually(lambda: _certified(api, key, expected))


async def _certified(api: Api, key_id: str, x5c: list[str]) -> bool:
    return list((await published(api))[key_id].x5c) == x5c
