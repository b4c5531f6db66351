"""The gateway's messages of Envoy are those of `xds-protos`, field by field."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

XDS_PROTOS = "xds-protos==1.85.0"
ROOT = Path(__file__).resolve().parents[2]

_ROUND_TRIP = """
from envoy.service.auth.v3 import external_auth_pb2 as theirs
from token_service.gateway.envoy import external_auth_pb2 as ours

request = theirs.CheckRequest()
request.attributes.request.http.headers["authorization"] = "Bearer a"
request.attributes.request.http.path = "/orders"
request.attributes.context_extensions["route"] = "orders"
request.attributes.source.certificate = "pem"
request.attributes.source.address.socket_address.port_value = 1
request.attributes.metadata_context.filter_metadata["a"]["b"] = "c"
read = ours.CheckRequest.FromString(request.SerializeToString()).attributes
assert read.request.http.headers["authorization"] == "Bearer a"
assert (read.request.http.path, read.source.certificate) == ("/orders", "pem")
assert dict(read.context_extensions) == {"route": "orders"}

response = ours.CheckResponse()
response.status.code = 14
response.error_response.status.code = 503
response.error_response.body = "later"
option = response.error_response.headers.add(append_action=2)
option.header.key, option.header.value = "retry-after", "1"
read = theirs.CheckResponse.FromString(response.SerializeToString())
assert (read.status.code, read.error_response.status.code, read.error_response.body) == (14, 503, "later")
(option,) = read.error_response.headers
assert (option.header.key, option.header.value, option.append_action) == ("retry-after", "1", 2)
"""


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `xds-protos`. It replaces `google.rpc`, so no environment has it."""
    directory = tmp_path_factory.mktemp("xds-protos")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--target", directory, XDS_PROTOS], check=True, timeout=240)
    return directory


def run(originals: Path, *arguments: str) -> None:
    """Run Python with both packages. Fail with its output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": f"{originals}{os.pathsep}{ROOT}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_field_is_that_of_the_originals(originals: Path) -> None:
    run(originals, "-m", "tests.e2e.envoy_originals")


def test_messages_are_read_by_the_originals_and_the_reverse(originals: Path) -> None:
    run(originals, "-c", _ROUND_TRIP)
