"""Policies and settings of running nodes change without a restart: two nodes on one database, one of them with two workers."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from tests.integration.nodes import Node, key_encryption_key
from tests.support.deadline import eventually_sync
from tests.support.files import rewrite
from tests.support.postgres import PostgresDatabases
from token_service.cli import cli
from token_service.errors import InvalidRequestError, PoliciesChangedError
from token_service.tokens import base64url
from token_service.v1 import admin_service_pb2 as pb, token_service_pb2 as tokens
from token_service.v1.admin_service_pb2_grpc import AdminServiceStub
from token_service.v1.token_service_pb2_grpc import TokenServiceStub
from token_service.wire import error_from_rpc

PARTNER = "[classifications.partner]\n"


def open_channel(node: Node) -> grpc.Channel:
    """Open a channel with a connection of its own, which may reach another worker than the last one."""
    return grpc.insecure_channel(node.grpc_address, [("grpc.use_local_subchannel_pool", 1)])


@dataclass
class Scene:
    workers: Node
    """Two workers, with the files."""
    alone: Node
    """One process without files."""
    config_file: Path
    policy_file: Path

    def admin(self, node: Node) -> AdminServiceStub:
        return AdminServiceStub(open_channel(node))

    def ttl(self, node: Node) -> int:
        """Return the lifetime of a new access token."""
        with open_channel(node) as channel:
            answer = TokenServiceStub(channel).IssueToken(
                tokens.IssueTokenRequest(subject="alice", client_id="web"), timeout=30
            )
        claims = json.loads(base64url.decode(answer.access_token.split(".")[1].encode()))
        return int(claims["exp"] - claims["iat"])

    def configuration(self, node: Node, name: str) -> tuple[str, str]:
        """Return the value in effect of a setting, and the value that waits for a restart."""
        with open_channel(node) as channel:
            found = AdminServiceStub(channel).GetEffectiveConfiguration(
                pb.GetEffectiveConfigurationRequest(), timeout=30
            )
        (setting,) = [each for each in found.settings if each.name == f"TOKEN_SERVICE_{name}"]
        return setting.value, setting.pending_value


@pytest.fixture(scope="module")
def scene(postgres_server: PostgresDatabases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("files")
    config_file, policy_file = directory / "service.toml", directory / "policies.toml"
    policy_file.write_text(PARTNER)
    config_file.write_text('log_level = "info"\n')
    env = {
        "TOKEN_SERVICE_DATABASE_URL": postgres_server.create_database(),
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key(),
        "TOKEN_SERVICE_AUDIT_KEY": key_encryption_key(),
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
    }
    files = ("--config", str(config_file), "--policy-file", str(policy_file))
    with ExitStack() as stack:
        workers = stack.enter_context(Node("--workers", "2", *files, env=env, ready_timeout=60))
        alone = stack.enter_context(Node(env=env, ready_timeout=60))
        eventually_sync(lambda: "is ready: gRPC" in workers.log_text())
        yield Scene(workers, alone, config_file, policy_file)


def change(path: str, value: str, revision: int = 0) -> pb.SetPoliciesRequest:
    changes = pb.PolicyChanges(values=[pb.PolicyValue(path=path, value=value)])
    return pb.SetPoliciesRequest(changes=changes, revision=revision, comment="INC-1")


def test_an_override_counts_at_every_node_and_worker_until_it_is_reset(scene: Scene) -> None:
    one, other = scene.admin(scene.alone), scene.admin(scene.workers)
    before = one.SetPolicies(change("internal.rotate", "false")).revision
    assert one.GetPolicies(pb.GetPoliciesRequest()).revision == before
    changed = one.SetPolicies(change("internal.access_token_ttl", '"77s"', before))
    assert changed.revision == before + 1
    assert [(each.path, each.before, each.after) for each in changed.differences] == [
        ("internal.access_token_ttl", '"30m"', '"77s"')
    ]
    assert scene.ttl(scene.alone) == 77
    applied = f"the overrides of the policies have revision {before + 1}: internal.access_token_ttl"
    eventually_sync(lambda: scene.workers.log_text().count(applied) == 2)
    assert {scene.ttl(scene.workers) for _ in range(8)} == {77}
    found = other.GetPolicies(pb.GetPoliciesRequest(client_id="web"))
    assert (found.revision, found.classification) == (before + 1, "internal")
    assert {each.path: each.source for each in found.values}["internal.access_token_ttl"] == "override"
    with pytest.raises(grpc.RpcError) as raised:
        other.SetPolicies(change("internal.rotate", "false", before))
    error = error_from_rpc(raised.value)
    assert isinstance(error, PoliciesChangedError)
    assert raised.value.code() is grpc.StatusCode.ABORTED
    with pytest.raises(grpc.RpcError) as raised:
        other.SetPolicies(change("internal.access_token_ttl", '"2h"'))
    wrong = error_from_rpc(raised.value)
    assert isinstance(wrong, InvalidRequestError)
    assert [each.field for each in wrong.violations] == ["changes.values[0]"]
    other.ResetPolicies(pb.ResetPoliciesRequest())
    eventually_sync(lambda: scene.ttl(scene.alone) == 1800)
    eventually_sync(lambda: {scene.ttl(scene.workers) for _ in range(8)} == {1800})


def test_a_file_that_contradicts_an_override_waits_for_its_reset(scene: Scene) -> None:
    admin = scene.admin(scene.workers)
    revision = admin.SetPolicies(change("partner.rotate", "false")).revision
    # A worker that does not know the override yet would accept the file.
    applied = f"the overrides of the policies have revision {revision}: "
    eventually_sync(lambda: scene.workers.log_text().count(applied) == 2)
    candidate = "[classifications.internal]\naccess_token_ttl = 99\n"
    check = admin.CheckPolicies(pb.CheckPoliciesRequest(file=candidate))
    assert not check.accepted
    assert "partner.rotate: no classification 'partner'" in check.problems[0]
    rewrite(scene.policy_file, candidate)
    eventually_sync(lambda: "partner.rotate" in admin.GetPolicies(pb.GetPoliciesRequest()).problem)
    assert scene.ttl(scene.workers) == 1800
    admin.ResetPolicies(pb.ResetPoliciesRequest())
    eventually_sync(lambda: {scene.ttl(scene.workers) for _ in range(8)} == {99})
    eventually_sync(
        lambda: "the policies have changed: internal.access_token_ttl" in scene.workers.log_text()
    )
    rewrite(scene.policy_file, PARTNER)
    eventually_sync(lambda: {scene.ttl(scene.workers) for _ in range(8)} == {1800})


def test_a_changed_settings_file_and_a_signal_reach_every_worker(scene: Scene) -> None:
    node = scene.workers
    rewrite(scene.config_file, 'log_level = "debug"\nreplica_max_age = "20s"\n')

    def of_all(name: str) -> set[tuple[str, str]]:
        return {scene.configuration(node, name) for _ in range(8)}

    eventually_sync(lambda: of_all("LOG_LEVEL") == {("debug", "")})
    eventually_sync(lambda: of_all("REPLICA_MAX_AGE") == {("10s", "20s")})
    for line in (
        "settings have changed: TOKEN_SERVICE_LOG_LEVEL info -> debug",
        "need a restart: TOKEN_SERVICE_REPLICA_MAX_AGE 10s -> 20s",
    ):
        eventually_sync(lambda: node.log_text().count(line) == 2)  # noqa: B023 - called before the next line
    rewrite(scene.config_file, 'log_level = "nonsense"\n')
    eventually_sync(lambda: node.log_text().count("the settings in effect stay unchanged") == 2)
    assert of_all("LOG_LEVEL") == {("debug", "")}
    rewrite(scene.config_file, 'log_level = "info"\n')
    eventually_sync(
        lambda: node.log_text().count("settings have changed: TOKEN_SERVICE_LOG_LEVEL debug -> info") == 2
    )
    children = node.children()
    node.send_signal(signal.SIGHUP)
    eventually_sync(lambda: node.log_text().count("the settings were read again and have not changed") == 2)
    assert node.children() == children


def run(scene: Scene, *arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(cli, [*arguments, "--target", scene.alone.grpc_address])
    return found.exit_code, found.output


def test_the_commands_read_check_change_and_explain(scene: Scene) -> None:
    code, text = run(scene, "policies", "set", "internal.access_token_ttl=6m", "internal.rotate=false")
    assert (code, 'internal.access_token_ttl  "30m"   "6m"' in text) == (0, True)
    code, text = run(scene, "policies", "list", "--overrides")
    assert code == 0
    assert [line.split() for line in text.splitlines()[1:3]] == [
        ["internal.access_token_ttl", '"6m"', "override"],
        ["internal.rotate", "false", "override"],
    ]
    code, text = run(scene, "policies", "get", "--client", "web", "-o", "json")
    assert (code, '"classification": "internal"' in text) == (0, True)
    code, text = run(scene, "policies", "diff", "internal.max_retries=0")
    assert (code, "refused:" in text) == (6, True)
    code, text = run(scene, "policies", "diff", "internal.grace_period=5s")
    assert (code, "accepted" in text) == (0, True)
    code, text = run(scene, "policies", "reset", "--all")
    assert (code, "internal.rotate" in text) == (0, True)
    code, text = run(scene, "config")
    assert (code, "TOKEN_SERVICE_LOG_LEVEL" in text, "NEEDS A RESTART" in text) == (0, True, True)
    code, text = run(scene, "access", "explain", "--caller", "nobody.example", "--call", "IssueToken")
    assert (code, text.startswith("denied: no entry in [callers] and no registered client")) == (1, True)
