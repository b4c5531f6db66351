"""newman runs the Postman collection against a node: every request is sent and every test of it passes."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.integration.oauth.identity_provider import IdentityProvider
from tests.integration.oauth.node import OAuthNode
from tests.integration.oauth.postman import COLLECTION, register_clients, requests_of
from tests.support import node as nodejs


def run_collection(node: OAuthNode, variables: dict[str, str], report: Path) -> dict[str, Any]:
    """Run the collection with newman; return its report."""
    nodejs.install()
    newman = nodejs.DIRECTORY / "node_modules" / "newman" / "bin" / "newman.js"
    given = [f"--env-var={name}={value}" for name, value in {"base_url": node.http_url, **variables}.items()]
    done = subprocess.run(
        [
            nodejs.find_node().node,
            newman,
            "run",
            COLLECTION,
            *given,
            "--reporters=cli,json",
            f"--reporter-json-export={report}",
            "--color=off",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text())["run"]
    return found


def test_every_request_of_the_collection_passes_its_tests(tmp_path: Path) -> None:
    with IdentityProvider("orders:read") as provider, OAuthNode(env=provider.settings) as node:
        variables = asyncio.run(register_clients(node, provider))
        found = run_collection(node, variables, tmp_path / "report.json")
    assert found["failures"] == []
    assert found["stats"]["requests"]["total"] == len(requests_of(json.loads(COLLECTION.read_text())))
    assert found["stats"]["assertions"]["total"] > 2 * found["stats"]["requests"]["total"]
