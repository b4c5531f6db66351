"""Where a command connects to: options before variables before the file."""

from __future__ import annotations

import json
import socket
from base64 import b64decode
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.command_service import CommandService
from tests.unit.cli.remote.conftest import Run
from token_service.cli.remote.connection import VARIABLES, Connection, find_connection
from token_service.cli.remote.connections_file import KEYS, connections_path
from token_service.config.loading import load_settings
from token_service.errors import ConfigurationError
from token_service.v1.admin_service_pb2 import GetOverviewResponse

FILE = """
[production]
target = "tokens.example.org:50052"
tls_ca = "/etc/ca.pem"
timeout = "3s"
client_id = "ops"
client_secret = "from the file"

[laptop]
target = "127.0.0.1:50051"
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose file of connections has the content of `FILE`."""
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    file = connections_path(environ)
    file.parent.mkdir()
    file.write_text(FILE)
    file.chmod(0o600)
    return environ


def found(options: dict[str, str | None], environ: dict[str, str]) -> Connection:
    connection = find_connection(options, environ)
    assert connection is not None
    return connection


def test_connection_of_the_file_has_its_values(environ: dict[str, str]) -> None:
    connection = found({"connection": "production"}, environ)
    assert connection.target == "tokens.example.org:50052"
    assert (connection.tls_ca, connection.plain, connection.timeout) == (Path("/etc/ca.pem"), False, 3.0)
    ((name, value),) = connection.proof.metadata()
    assert (name, b64decode(value.removeprefix("Basic "))) == ("authorization", b"ops:from+the+file")


def test_option_counts_before_variable_before_file(environ: dict[str, str]) -> None:
    environ |= {"TOKEN_SERVICE_CONNECTION": "production", "TOKEN_SERVICE_TARGET": "b.example:1"}
    assert found({}, environ).target == "b.example:1"
    assert found({"target": "c.example:1"}, environ).target == "c.example:1"
    assert found({"connection": "laptop"}, environ).target == "127.0.0.1:50051"
    assert found({"connection": "production", "timeout": "1s"}, environ).timeout == 1.0


def test_proof_of_the_environment_replaces_that_of_the_file(environ: dict[str, str]) -> None:
    environ |= {"TOKEN_SERVICE_ACCESS_TOKEN": "abc"}
    connection = found({"connection": "production"}, environ)
    assert connection.proof.metadata() == (("authorization", "Bearer abc"),)


def test_no_target_means_the_database(environ: dict[str, str]) -> None:
    assert find_connection({}, environ) is None
    environ["TOKEN_SERVICE_TARGET"] = "tokens.example.org:1"
    assert find_connection({"target": ""}, environ) is None


@pytest.mark.parametrize(
    ("options", "variables", "part"),
    [
        ({"tls_ca": "ca.pem"}, {}, "--tls-ca needs a service to connect to"),
        ({"target": "https://a.example:1/"}, {}, "write the address of gRPC as HOST:PORT, for example a.example:1"),
        ({"target": "a:1", "insecure": "true", "tls_ca": "x"}, {}, "insecure and tls_ca contradict"),
        ({"target": "a:1", "tls_cert": "x"}, {}, "needs both tls_cert and tls_key"),
        ({"target": "a:1", "timeout": "soon"}, {}, "write for example 10s"),
        ({"target": "a:1", "timeout": "0s"}, {}, "more than 0 and at most 1h"),
        ({"target": "a:1"}, {"CLIENT_SECRET": "x"}, "client_secret needs the client_id"),
        ({"target": "a:1"}, {"CLIENT_KEY": "x", "CLIENT_ID": "a"}, "client_key needs the issuer"),
        ({"target": "a:1"}, {"CLIENT_KEY": "x", "CLIENT_ID": "a", "ISSUER": "i"}, "neither a private key in PEM"),
        ({"target": "a:1"}, {"ACCESS_TOKEN": "x", "CLIENT_SECRET": "y"}, "several proofs: client_secret, access_token"),
        ({"target": "a:1"}, {"ACCESS_TOKEN": "x", "ACCESS_TOKEN_FILE": "y"}, "are both set; remove one"),
        ({"target": "a:1"}, {"ACCESS_TOKEN": "x\ny"}, "access_token is no token"),
        ({"target": "a:1"}, {"ACCESS_TOKEN": "\u00e9"}, "access_token is no token"),
        ({"target": "a:1"}, {"ACCESS_TOKEN_FILE": "/missing"}, "access_token_file: /missing can't be read"),
        ({"connection": "prodution"}, {}, "has no connection [prodution]; did you mean production?"),
    ],
)  # fmt: skip
def test_unusable_connection_is_refused(
    environ: dict[str, str], options: dict[str, str | None], variables: dict[str, str], part: str
) -> None:
    environ |= {f"TOKEN_SERVICE_{name}": value for name, value in variables.items()}
    with pytest.raises(ConfigurationError) as caught:
        find_connection(options, environ)
    assert part in caught.value.message


def test_missing_file_is_explained() -> None:
    with pytest.raises(
        ConfigurationError, match="write the connection a into it, or give --target HOST:PORT"
    ):
        find_connection({"connection": "a"}, {"XDG_CONFIG_HOME": "/missing"})


@pytest.mark.parametrize(
    ("content", "mode", "part"),
    [
        (FILE, 0o640, "run: chmod 600"),
        (FILE, 0o602, "run: chmod 600"),
        ("[a", 0o600, "is not TOML"),
        ("[production]\ntlsca = 'a'", 0o600, "unknown key tlsca; did you mean tls_ca?"),
        ("[production]\ntarget = 1", 0o600, "target of [production] must be a text"),
    ],
)
def test_unusable_file_is_refused(environ: dict[str, str], content: str, mode: int, part: str) -> None:
    file = connections_path(environ)
    file.write_text(content)
    file.chmod(mode)
    with pytest.raises(ConfigurationError) as caught:
        find_connection({"connection": "production"}, environ)
    assert part in caught.value.message


@pytest.mark.parametrize(
    ("target", "options", "plain"),
    [
        ("127.0.0.1:1", {}, True),
        ("localhost:1", {}, True),
        ("unix:/run/tokens", {}, True),
        ("127.0.0.1:1", {"tls_ca": "ca.pem"}, False),
        ("tokens.example.org:1", {}, False),
        ("tokens.example.org:1", {"insecure": "true"}, True),
    ],
)
def test_only_this_machine_or_a_flag_means_no_tls(target: str, options: dict[str, str], plain: bool) -> None:  # noqa: FBT001
    assert found({"target": target, **options}, {}).plain is plain


@pytest.mark.parametrize("form", ["pem", "jwk"])
def test_each_call_gets_another_assertion(tmp_path: Path, form: str) -> None:
    key = generate_private_key(SECP256R1())
    file = tmp_path / "key"
    if form == "pem":
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    else:
        file.write_text(json.dumps({**jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True), "kid": "k1"}))
    environ = {
        "TOKEN_SERVICE_CLIENT_ID": "ops",
        "TOKEN_SERVICE_CLIENT_KEY_FILE": str(file),
        "TOKEN_SERVICE_ISSUER": "https://tokens.example",
    }
    proof = found({"target": "a.example:1"}, environ).proof
    first, second = dict(proof.metadata()), dict(proof.metadata())
    assert first["client-assertion-type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    claims = [
        jwt.decode(each["client-assertion"], key.public_key(), ["ES256"], audience="https://tokens.example")
        for each in (first, second)
    ]
    assert [(each["iss"], each["sub"], each["exp"] - each["iat"]) for each in claims] == [
        ("ops", "ops", 60)
    ] * 2
    assert claims[0]["jti"] != claims[1]["jti"]
    assert jwt.get_unverified_header(first["client-assertion"]).get("kid") == (
        None if form == "pem" else "k1"
    )


@pytest.mark.parametrize(
    ("form", "part"),
    [
        ("curve", "client_key can't sign with ES256"),
        ("exchange", "client_key can't sign with EdDSA"),
        ("kid", "a text as the kid of a JWK"),
        ("alg", "neither a private key in PEM without a password nor a JWK"),
    ],
)
def test_key_that_can_not_sign_is_refused_before_a_call(tmp_path: Path, form: str, part: str) -> None:
    key: Any = X25519PrivateKey.generate() if form == "exchange" else generate_private_key(SECP384R1())
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(generate_private_key(SECP256R1()), as_dict=True)
    file = tmp_path / "key"
    if form in {"kid", "alg"}:
        file.write_text(json.dumps({**jwk, form: 5 if form == "kid" else "none"}))
    else:
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    environ = {
        "TOKEN_SERVICE_CLIENT_ID": "ops",
        "TOKEN_SERVICE_CLIENT_KEY_FILE": str(file),
        "TOKEN_SERVICE_ISSUER": "https://tokens.example",
    }
    with pytest.raises(ConfigurationError) as caught:
        found({"target": "a.example:1"}, environ)
    assert part in caught.value.message


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_secrets_for_this_machine_do_not_pass_a_proxy(
    monkeypatch: pytest.MonkeyPatch, run: Run, service: CommandService, name: str
) -> None:
    service.answers["GetOverview"] = GetOverviewResponse()
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        for variable in ("no_proxy", "no_grpc_proxy", "http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        result = run("overview", CLIENT_ID="ops", CLIENT_SECRET="hunter2")
        assert result.exit_code == 0, result.output
        assert "authorization" in service.metadata
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_secrets_are_not_in_the_representation() -> None:
    environ = {"TOKEN_SERVICE_ACCESS_TOKEN": "hunter2"}
    assert "hunter2" not in repr(found({"target": "a.example:1"}, environ))


def test_variables_of_connections_are_no_misspelt_settings() -> None:
    environ = dict.fromkeys((*VARIABLES.values(), "TOKEN_SERVICE_CONNECTION"), "")
    assert load_settings({}, environ).warnings == ()


def test_every_variable_is_a_key_of_the_file() -> None:
    assert set(VARIABLES) <= set(KEYS)
