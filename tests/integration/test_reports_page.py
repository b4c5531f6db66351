"""The commands of docs/reports.md print what the page shows, on the trail of a node."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from mmdb_writer import MMDBWriter
from netaddr import IPSet

from tests.integration.tour import DOCS, GRPC_ADDRESS, steps
from tests.support.preloaded import path_of_commands
from tests.support.processes import ServiceProcess
from token_service.config import load_settings

TEXT = (DOCS / "reports.md").read_text()


def test_commands_print_what_the_page_shows(tmp_path: Path) -> None:
    first, *others = steps(TEXT, "reports")
    assert [step.shown is None for step in (first, *others)] == [True, False, False, False]
    data = tmp_path / "data"
    env = {**os.environ, "PATH": path_of_commands(), "TOKEN_SERVICE_DATA_DIR": str(data)}

    def run(code: str, **more: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", code],
            cwd=tmp_path,
            env={**env, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    settings = {"TOKEN_SERVICE_AUDIT_ROUTINE": "sql", "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}
    with ServiceProcess(env=settings, data_dir=data) as node:
        run(first.code.replace(GRPC_ADDRESS, node.grpc_address))
        node.terminate()  # the end of the block would kill it
    # The node has stopped, so it has written the rows of all routine events.
    for step in others:
        assert run(step.code) == step.shown, step.code
    countries = MMDBWriter(4, "Test-Country", languages=["en"])
    countries.insert_network(IPSet(["127.0.0.0/8"]), {"country": {"iso_code": "FR"}})
    countries.to_db_file(str(tmp_path / "GeoLite2-Country.mmdb"))
    (step,) = steps(TEXT, "countries")
    assert "is the geography report of the trail" in run(step.code)
    (code,) = re.findall(r"<!-- hash:begin -->\n\n```python\n(.*?)```", TEXT, re.DOTALL)
    run(f"python - <<'END'\n{code}END")


def test_setting_of_the_page_is_accepted(tmp_path: Path) -> None:
    (toml,) = re.findall(r"^```toml\n(.*?)\n```$", TEXT, re.MULTILINE | re.DOTALL)
    file = tmp_path / "settings.toml"
    file.write_text(toml)
    assert load_settings({"config_file": str(file)}, {}).audit_routine == "sql"
