from __future__ import annotations

import subprocess
import sys

from tests.unit.client.test_imports import SERVER_ONLY, loaded_by
from token_service import bff


def test_nothing_of_the_server_and_no_driver_is_loaded() -> None:
    modules = loaded_by("import token_service.bff")
    assert not {name.partition(".")[0] for name in modules} & {*SERVER_ONLY, "grpc"}


def test_each_store_loads_its_own_driver() -> None:
    loaded = {name.partition(".")[0] for name in loaded_by("import token_service.bff.stores.redis")}
    assert "redis" in loaded
    assert "sqlalchemy" not in loaded
    loaded = {name.partition(".")[0] for name in loaded_by("import token_service.bff.stores.sql")}
    assert "sqlalchemy" in loaded
    assert "redis" not in loaded


def test_missing_httpx_is_reported_with_its_remedy() -> None:
    program = "import sys; sys.modules['httpx'] = None; import token_service.bff"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'grpc-token-service[bff]'" in done.stderr.splitlines()[-1]


def test_every_public_name_exists() -> None:
    assert all(hasattr(bff, name) for name in bff.__all__)
