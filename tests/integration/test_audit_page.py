"""The commands of docs/audit.md print what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.integration.tour import DOCS, GRPC_ADDRESS, steps
from tests.support.preloaded import path_of_commands
from tests.support.processes import ServiceProcess
from token_service.config import load_audit_keys, load_settings

PAGE = DOCS / "audit.md"
# The node makes keys meanwhile, which are events, too.
_VARYING = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|^\d+ events in", re.MULTILINE)


def test_commands_print_what_the_page_shows(tmp_path: Path) -> None:
    page_steps = steps(PAGE.read_text(), "audit")
    assert len(page_steps) == 4
    data = tmp_path / "data"
    # A checkpoint of the node between two commands would change the numbers of the page.
    settings = {"TOKEN_SERVICE_AUDIT_CHECKPOINT_INTERVAL": "1d", "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}
    with ServiceProcess(env=settings, data_dir=data) as node:
        env = {
            **os.environ,
            "PATH": path_of_commands(),
            "TOKEN_SERVICE_DATA_DIR": str(data),
        }
        for step in page_steps:
            code = step.code.replace(GRPC_ADDRESS, node.grpc_address)
            done = subprocess.run(
                ["bash", "-ec", code],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert step.shown is not None
            assert _VARYING.sub("<varying>", done.stdout) == _VARYING.sub("<varying>", step.shown), step.code


def test_key_of_the_page_is_accepted(tmp_path: Path) -> None:
    text = PAGE.read_text()
    (command,) = re.findall(r"^```sh\n(\(umask.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, timeout=60, check=True)
    (toml,) = re.findall(r"^```toml\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    file = tmp_path / "settings.toml"
    file.write_text(toml.replace("/etc/token-service", str(tmp_path)))
    settings = load_settings({"config_file": str(file)}, {})
    assert len(load_audit_keys(settings)) == 1
    assert settings.audit_key_file.stat().st_mode & 0o077 == 0
