"""The commands of docs/events.md print what the page shows, and its code verifies the requests of a node."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.integration.tour import DOCS, GRPC_ADDRESS, steps
from tests.support.preloaded import path_of_commands
from tests.support.processes import ServiceProcess
from tests.support.webhook_receiver import WebhookReceiver

PAGE = DOCS / "events.md"
RECEIVER = "127.0.0.1:8088"


def test_page_streams_events_and_has_them_posted_to_a_receiver(tmp_path: Path) -> None:
    page_steps = steps(PAGE.read_text(), "events")
    (code,) = [step.code for step in page_steps if step.language == "python"]
    commands = [step for step in page_steps if step.language == "sh"]
    assert len(commands) == 6
    page: dict[str, Any] = {}
    exec(code, page)
    settings = {
        "TOKEN_SERVICE_ALLOW_PRIVATE_WEBHOOK_URL": "true",
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
    }
    with ServiceProcess(env=settings) as node, WebhookReceiver() as receiver:
        env = {
            **os.environ,
            "PATH": path_of_commands(),
            "TOKEN_SERVICE_TARGET": node.grpc_address,
        }
        for step in commands:
            code = step.code.replace(GRPC_ADDRESS, node.grpc_address)
            done = subprocess.run(
                ["bash", "-ec", code.replace(RECEIVER, f"127.0.0.1:{receiver.port}")],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            if step.shown is not None:
                shown = re.sub(r"after \S+:\d+ are", "after CURSOR are", done.stdout)
                assert shown.split() == step.shown.split(), step.code
        secret = json.loads((tmp_path / "webhook.json").read_text())["secret"]
        test = receiver.deliveries("hook")[0]
        body = test.body.encode()
        assert page["verified"](test.headers, body, secret)
        assert not page["verified"](test.headers, body + b" ", secret)
        old = {**test.headers, "webhook-timestamp": str(int(test.headers["webhook-timestamp"]) - 301)}
        assert not page["verified"](old, body, secret)
        assert test.payload["type"] == "webhook.test"
