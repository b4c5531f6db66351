"""Each question of docs/operations.md is answered by its command at a running service."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.integration.nodes import Node
from tests.integration.tour import DOCS, section
from tests.support.preloaded import path_of_commands
from token_service.telemetry.registry import REGISTRY
from token_service.v1.client_service_pb2 import Client, CreateClientRequest
from token_service.v1.client_service_pb2_grpc import ClientServiceStub
from token_service.v1.key_service_pb2 import ListSigningKeysRequest
from token_service.v1.key_service_pb2_grpc import KeyServiceStub
from token_service.v1.token_service_pb2 import IssueTokenRequest
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

TEXT = (DOCS / "operations.md").read_text()
_START, _END = section(TEXT, "questions")
ANSWERS = [line.strip("|").split(" | ") for line in TEXT[_START:_END].strip().splitlines()[2:]]
COMMANDS = list(
    dict.fromkeys(command for _, cell in ANSWERS for command in re.findall(r"`(token-service [^`]+)`", cell))
)
SAYS_NO = {"access explain": 1}
"""Commands whose answer is no in this place, with their exit codes."""


@dataclass
class Place:
    """A running service, and a directory with the files that the commands name."""

    node: Node
    directory: Path
    key_id: str

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")
        }
        if "migrate" not in command:
            environment["TOKEN_SERVICE_TARGET"] = self.node.grpc_address
        environment["TOKEN_SERVICE_DATA_DIR"] = str(self.node.data_dir)
        environment["PATH"] = path_of_commands()
        return subprocess.run(
            ["sh", "-c", command.replace("KEY_ID", self.key_id)],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("questions")
    (directory / "policies.toml").write_text('[classifications.internal]\naccess_token_ttl = "3m"\n')
    with Node(env={"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}) as node:
        with grpc.insecure_channel(node.grpc_address) as channel:
            tokens = TokenServiceStub(channel)
            for subject in ("alice", "bob"):
                issued = tokens.IssueToken(
                    IssueTokenRequest(subject=subject, client_id="web", audience=["api"]), timeout=60
                )
                if subject == "alice":
                    (directory / "token").write_text(issued.access_token)
            client = Client(client_id="shop", token_endpoint_auth_method="TOKEN_ENDPOINT_AUTH_METHOD_NONE")
            ClientServiceStub(channel).CreateClient(CreateClientRequest(client=client), timeout=60)
            keys = KeyServiceStub(channel).ListSigningKeys(ListSigningKeysRequest(), timeout=60).signing_keys
        yield Place(node, directory, keys[0].key_id)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_answers_its_question(place: Place, command: str) -> None:
    done = place.run(command)
    expected = next((code for name, code in SAYS_NO.items() if name in command), 0)
    assert done.returncode == expected, f"{command}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip(), command


def test_answers_name_the_asked_objects(place: Place) -> None:
    assert "alice" in place.run("token-service sessions list --subject alice").stdout
    assert place.run("token-service sessions count --subject alice -o json").stdout.count("1") >= 1
    place.run("token-service tokens revoke --subject bob --comment gone")
    listed = place.run("token-service revocations list").stdout
    assert "bob" in listed
    assert "gone" in listed
    assert "3m" in place.run("token-service policies diff --file policies.toml").stdout


def test_every_question_has_a_command_or_a_metric() -> None:
    known = {metric.name for metric in REGISTRY}
    for question, cell in ANSWERS:
        named = set(re.findall(r"`(token_service\.[\w.]+)`", cell))
        assert named <= known, question
        assert named or "`token-service " in cell, question
