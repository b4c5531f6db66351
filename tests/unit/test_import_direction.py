"""The allowed imports between the parts of the package, checked in the source.

    cli -> app -> rpc, web, stores, signers, fetching, config, telemetry -> core -> tokens -> errors, clock
    client -> tokens, wire, v1, errors, clock
    bff, gateway -> client
    cli -> gateway, client
    testing -> app, client

and inside `core`, from top to bottom, the features of `LAYERS`.

Imports under `TYPE_CHECKING` and inside functions count: a type is a dependency, and so is a late import. The client
and the parts it imports may use only the packages of the base installation.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parents[2] / "token_service"

FOUNDATION = {"tokens", "errors", "clock", "durations", "files", "suggestions", "urls"}
ADAPTERS = {"redis_clients", "rpc", "web", "stores", "signers", "fetching", "certificates"}

# A part of the package (module or directory directly in it) -> the parts it may import besides itself.
# A new part needs a line here, and with it a decision.
ALLOWED: dict[str, set[str]] = {
    "clock": set(),
    "randomness": set(),
    "durations": set(),
    "errors": set(),
    "files": set(),
    "listening": set(),
    "probe": set(),
    "suggestions": set(),
    "urls": set(),
    "v1": set(),
    "tokens": {"errors", "clock"},
    "wire": {*FOUNDATION, "v1"},
    "client": {*FOUNDATION, "wire", "v1"},
    # It runs inside applications and talks to any OpenID provider over HTTP, so it knows nothing of the server.
    "bff": {*FOUNDATION, "wire", "client", "redis_clients"},
    # A process of its own beside a proxy, with the base installation and its extra.
    "gateway": {*FOUNDATION, "listening", "wire", "v1", "client"},
    "core": FOUNDATION,
    "config": {*FOUNDATION, "core"},
    "telemetry": {*FOUNDATION, "core", "randomness"},
    # Clients of Redis, which the service and the applications of `bff` share.
    "redis_clients": FOUNDATION,
    "stores": {*FOUNDATION, "core", "telemetry", "redis_clients"},
    "signers": {*FOUNDATION, "core", "telemetry"},
    "fetching": {*FOUNDATION, "core", "telemetry"},
    "certificates": {*FOUNDATION, "core"},
    "rpc": {*FOUNDATION, "listening", "core", "telemetry", "wire", "v1", "certificates"},
    "web": {*FOUNDATION, "listening", "core", "telemetry", "wire", "v1", "certificates"},
    "app": {*FOUNDATION, *ADAPTERS, "listening", "randomness", "core", "config", "telemetry", "wire", "v1"},
    "cli": {
        *FOUNDATION,
        *ADAPTERS,
        "listening",
        "core",
        "config",
        "telemetry",
        "wire",
        "v1",
        "app",
        "gateway",
        "client",
    },
    # For the tests of users: a fake issuer on the client library alone, and a whole node.
    "testing": {*FOUNDATION, "wire", "v1", "client", "app", "config", "listening"},
    "__main__": {"cli"},
}

# The features of `core` (packages or modules directly in it), top to bottom. A feature may import features of lower
# layers, but none of its own layer.
LAYERS: tuple[set[str], ...] = (
    {"logout", "security_events"},
    {"login"},
    {"administration", "grants", "reports", "event_streams"},
    {"issuing", "validation", "maintenance"},
    {"revocation"},
    {"personal_data"},
    {"keys"},
    {"subscribers"},
    {"sessions", "risk"},
    {"access"},
    {"clients", "overrides"},
    {"policies", "events"},
    {"limits", "entropy", "leases", "page_tokens"},
)
DEPTH = {feature: depth for depth, layer in enumerate(LAYERS) for feature in layer}

# External packages that a part may import. Parts not listed may import all except the database drivers.
CRYPTO = {"cryptography", "jwt", "msgspec"}
GRPC = {"grpc", "google"}
OUTSIDE: dict[str, set[str]] = {
    "clock": set(),
    "randomness": set(),
    "durations": set(),
    "errors": set(),
    "files": set(),
    "listening": set(),
    "probe": set(),
    "suggestions": set(),
    "urls": set(),
    "tokens": CRYPTO,
    "core": CRYPTO,
    "fetching": {"h11", "maxminddb"},
    "v1": GRPC,
    "wire": GRPC | {"msgspec"},
    "client": CRYPTO
    | GRPC
    | {"httpx", "keyring"}  # only for TokenAuth and KeyringTokenStore, on request of a caller that has them
    | {"fastapi", "pydantic"},  # only for applications that have it: see ONE_MODULE
    "bff": CRYPTO | {"httpx", "sqlalchemy", "redis"},
    "gateway": CRYPTO | GRPC | {"prometheus_client", "uvicorn"},
}
DRIVERS = {"sqlalchemy", "alembic", "asyncpg", "aiosqlite", "sqlite3", "redis", "hiredis", "limits"}
DRIVERS_ONLY_IN = ("stores", "redis_clients", "bff/stores")

# External packages that one module alone may import.
ONE_MODULE = {"fastapi": "client/fastapi.py", "pydantic": "client/fastapi.py"}

# These parts get `now` and randomness as arguments.
PURE = {"tokens", "core"}
IMPURE_MODULES = {"time", "random", "secrets", "os"}
IMPURE_CALLS = {"datetime.now", "datetime.utcnow", "date.today", "uuid.uuid1", "uuid.uuid4"}


def part_of(path: Path, package: Path) -> str:
    return path.relative_to(package).parts[0].removesuffix(".py")


def imported(tree: ast.AST, path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of every import. `from a import b` gives `a.b`; relative imports are resolved."""
    here = [package.name, *path.relative_to(package).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            prefix = [*base, *([node.module] if node.module else [])]
            for alias in node.names:
                yield node.lineno, ".".join([*prefix, alias.name])


def feature_violations(core: Path) -> list[str]:
    """Return the imports inside `core` that do not lead to a lower layer."""
    found = []
    for path in sorted(core.rglob("*.py")):
        feature = part_of(path, core)
        if feature == "__init__":
            continue
        where = f"core/{path.relative_to(core)}"
        if feature not in DEPTH:
            found.append(f"{where}: `{feature}` has no layer in LAYERS")
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        for line, name in imported(tree, path, core.parent):
            package, part, target, *_ = [*name.split("."), "", "", ""]
            if (package, part) != (core.parent.name, "core") or target == feature:
                continue
            if target not in DEPTH or DEPTH[target] <= DEPTH[feature]:
                found.append(f"{where}:{line}: {feature} may not import {target or 'core'}")
    return found


def violations(package: Path) -> list[str]:
    found = []
    for path in sorted(package.rglob("*.py")):
        part = part_of(path, package)
        if part != "__init__" and part not in ALLOWED:
            found.append(f"{path.relative_to(package)}: `{part}` has no line in ALLOWED")
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))

        def report(line: int, what: str, path: Path = path) -> None:
            found.append(f"{path.relative_to(package)}:{line}: {what}")

        for line, name in imported(tree, path, package):
            top, _, rest = name.partition(".")
            if top == package.name:
                target = rest.partition(".")[0]
                if target.startswith("__version"):
                    continue
                if target != part and target not in ALLOWED.get(part, set()):
                    report(line, f"{part} may not import {target}")
            elif top not in sys.stdlib_module_names and top not in OUTSIDE.get(part, {top}):
                report(line, f"{part} may not import {top}")
            if top in DRIVERS and not any(path.is_relative_to(package / each) for each in DRIVERS_ONLY_IN):
                report(line, f"{top} belongs to stores")
            if ONE_MODULE.get(top, where := str(path.relative_to(package))) != where:
                report(line, f"{top} belongs to {ONE_MODULE[top]}")
            if part in PURE and top in IMPURE_MODULES:
                report(line, f"{part} may not import {top}: time, randomness and environment are handed in")
        if part in PURE:
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    call = ".".join(ast.unparse(node.func).split(".")[-2:])
                    if call in IMPURE_CALLS:
                        report(node.lineno, f"{part} may not call {call}: it is handed in")
    return found


def test_package_keeps_the_import_direction() -> None:
    assert violations(PACKAGE) == []


def test_features_of_core_keep_the_import_direction() -> None:
    assert feature_violations(PACKAGE / "core") == []


def test_package_init_imports_nothing() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    assert list(imported(tree, PACKAGE / "__init__.py", PACKAGE)) == []


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("core/issuer.py", "from token_service.stores import sql", "core may not import stores"),
        ("core/issuer.py", "from token_service import rpc", "core may not import rpc"),
        ("core/issuer.py", "from ..v1 import token_service_pb2", "core may not import v1"),
        ("core/issuer.py", "import grpc", "core may not import grpc"),
        ("core/issuer.py", "def f():\n    import sqlalchemy.orm", "sqlalchemy belongs to stores"),
        ("core/issuer.py", "import secrets", "core may not import secrets"),
        (
            "core/issuer.py",
            "import datetime\ndatetime.datetime.now(datetime.UTC)",
            "may not call datetime.now",
        ),
        ("tokens/claims.py", "from token_service.core import ports", "tokens may not import core"),
        ("tokens/claims.py", "import grpc", "tokens may not import grpc"),
        ("client/follower.py", "import token_service.core.policies.policy", "client may not import core"),
        ("client/follower.py", "from redis.asyncio import Redis", "client may not import redis"),
        ("client/asgi.py", "import starlette", "client may not import starlette"),
        ("client/fastapi.py", "import starlette", "client may not import starlette"),
        ("client/asgi.py", "import fastapi", "fastapi belongs to client/fastapi.py"),
        ("web/app.py", "from pydantic import BaseModel", "pydantic belongs to client/fastapi.py"),
        (
            "client/config.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from token_service.rpc import convert",
            "client may not import rpc",
        ),
        ("bff/login.py", "from token_service.core import limits", "bff may not import core"),
        ("bff/login.py", "from token_service.v1 import token_pb2", "bff may not import v1"),
        ("bff/login.py", "import starlette", "bff may not import starlette"),
        ("bff/login.py", "import sqlalchemy", "sqlalchemy belongs to stores"),
        ("bff/stores/sql.py", "from token_service.stores import sql", "bff may not import stores"),
        ("client/asgi.py", "from token_service.bff import session_of", "client may not import bff"),
        ("gateway/http.py", "from token_service.core import limits", "gateway may not import core"),
        ("gateway/http.py", "from token_service.web import server", "gateway may not import web"),
        ("gateway/http.py", "from token_service.rpc import server", "gateway may not import rpc"),
        (
            "gateway/http.py",
            "from token_service.telemetry import Metrics",
            "gateway may not import telemetry",
        ),
        ("gateway/http.py", "import starlette", "gateway may not import starlette"),
        ("errors.py", "import grpc", "errors may not import grpc"),
        ("rpc/tokens.py", "from redis.exceptions import RedisError", "redis belongs to stores"),
        ("rpc/tokens.py", "from token_service.stores.redis import Set", "rpc may not import stores"),
        ("stores/sql/schema.py", "from token_service.rpc import convert", "stores may not import rpc"),
        ("fetching/fetcher.py", "from token_service.client import config", "fetching may not import client"),
        ("fetching/fetcher.py", "import httpx", "fetching may not import httpx"),
        ("app/node.py", "from token_service.cli import main", "app may not import cli"),
        ("utils.py", "", "has no line in ALLOWED"),
    ],
)
def test_forbidden_import_is_reported(tmp_path: Path, path: str, source: str, complaint: str) -> None:
    file = tmp_path / "token_service" / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    found = violations(tmp_path / "token_service")
    assert any(complaint in line for line in found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/issuer.py", "from token_service.tokens import claims\nfrom . import ports\nimport hmac"),
        ("core/issuer.py", "def f(clock):\n    return clock.now()"),
        ("client/keys.py", "from token_service.v1 import key_service_pb2\nimport grpc.aio, msgspec, jwt"),
        ("client/renewal.py", "def f():\n    import httpx"),
        ("client/fastapi.py", "from fastapi.security.base import SecurityBase\nimport pydantic"),
        ("bff/transport.py", "import httpx\nfrom token_service.client._internal import single_flight"),
        ("bff/stores/redis.py", "from redis.asyncio import Redis"),
        ("gateway/serving.py", "import uvicorn\nfrom token_service.client import TokenValidator"),
        ("stores/sql/schema.py", "import sqlalchemy as sa\nfrom token_service.core import ports"),
        ("stores/sql/migrations/versions/0001_initial.py", "from alembic import op"),
        (
            "cli/serve.py",
            "from token_service import __version__\nfrom token_service.app.node import run\nimport click",
        ),
        ("__main__.py", "from token_service.cli import main"),
    ],
)
def test_allowed_import_passes(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / "token_service" / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert violations(tmp_path / "token_service") == []


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        (
            "keys/manager.py",
            "from token_service.core.revocation import tailer",
            "keys may not import revocation",
        ),
        ("sessions/store.py", "from ..issuing import issuer", "sessions may not import issuing"),
        ("issuing/issuer.py", "import token_service.core.validation", "issuing may not import validation"),
        (
            "issuing/issuer.py",
            "from token_service.core import maintenance",
            "issuing may not import maintenance",
        ),
        ("issuing/issuer.py", "import token_service.core", "issuing may not import core"),
        ("helpers.py", "", "has no layer in LAYERS"),
    ],
)
def test_forbidden_import_inside_core_is_reported(
    tmp_path: Path, path: str, source: str, complaint: str
) -> None:
    file = tmp_path / "token_service" / "core" / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert any(complaint in line for line in feature_violations(tmp_path / "token_service" / "core"))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("issuing/issuer.py", "from token_service.core.revocation import log\nfrom . import minter"),
        ("revocation/tailer.py", "from token_service.core.keys.keyring import Keyring\nimport asyncio"),
        (
            "sessions/store.py",
            "from token_service.tokens import claims\nfrom token_service.core import limits",
        ),
    ],
)
def test_allowed_import_inside_core_passes(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / "token_service" / "core" / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert feature_violations(tmp_path / "token_service" / "core") == []
