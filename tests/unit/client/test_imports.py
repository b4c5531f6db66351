from __future__ import annotations

import json
import subprocess
import sys

from token_service import client

# grpc imports grpc_health, grpc_reflection and their dependencies itself where they are installed, so these are
# left out.
SERVER_ONLY = {
    "sqlalchemy",
    "asyncpg",
    "aiosqlite",
    "alembic",
    "redis",
    "hiredis",
    "uvicorn",
    "uvloop",
    "starlette",
    "opentelemetry",
    "fastapi",
    "pydantic",
}


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a new interpreter has loaded after running the code."""
    program = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


def test_the_client_loads_nothing_of_the_server() -> None:
    names = ", ".join(name for name in client.__all__ if name not in {"TokenAuth", "KeyringTokenStore"})
    modules = loaded_by(f"from token_service.client import {names}")
    assert not {name.partition(".")[0] for name in modules} & SERVER_ONLY
    parts = {name.split(".")[1] for name in modules if name.startswith("token_service.")}
    assert parts <= {"client", "tokens", "wire", "v1", "errors", "clock", "files"}


def test_optional_modules_are_loaded_on_first_use() -> None:
    modules = loaded_by("from token_service.client import TokenValidator, ServiceIssuer, ValidatorConfig")
    for rarely in (
        "httpx",
        "keyring",
        "token_service.client._internal.pins",
        "token_service.client._internal.tls_relay",
        "token_service.client._internal.warm_start",
        "token_service.client.token_source",
        "token_service.client.sync_token_source",
        "token_service.client.asgi",
    ):
        assert rarely not in modules


def test_every_public_name_can_be_imported() -> None:
    for name in client.__all__:
        assert getattr(client, name).__name__ == name
    assert dir(client) == sorted(client.__all__)
