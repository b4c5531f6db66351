"""A service with SQLite, and an operator for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.integration.keys.operator import Operator
from tests.integration.nodes import Node

StartService = Callable[..., tuple[Node, Operator]]


@pytest.fixture
def start_service() -> Iterator[StartService]:
    """Return a function that starts a node: `start_service(NAME="value")` returns it and an operator with its settings."""
    with ExitStack() as stack:

        def start(environment: dict[str, str] | None = None, **settings: str) -> tuple[Node, Operator]:
            env = {"SIGNING_ALGORITHM": "ES256", "KEY_CHECK_INTERVAL": "100ms", **settings}
            env = {**{f"TOKEN_SERVICE_{name}": value for name, value in env.items()}, **(environment or {})}
            node = stack.enter_context(Node(env=env, ready_timeout=60))
            operator = Operator({**env, "TOKEN_SERVICE_DATA_DIR": str(node.data_dir)})
            return node, operator

        yield start
