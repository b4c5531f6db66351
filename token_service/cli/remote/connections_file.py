"""The file with named connections: `~/.config/token-service/connections.toml`, which only its owner can read.

[production]
target = "dns:///tokens.example.org:50052"
client_id = "ops"
client_secret_file = "~/.config/token-service/ops.secret"
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from token_service.errors import ConfigurationError
from token_service.files import read_regular_with_status
from token_service.suggestions import did_you_mean

KEYS: Final = (
    "target",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "server_name",
    "insecure",
    "timeout",
    "issuer",
    "client_id",
    "client_secret",
    "client_secret_file",
    "client_key",
    "client_key_file",
    "access_token",
    "access_token_file",
)
"""What a connection may have."""
_MAX_BYTES: Final = 256 * 1024


def connections_path(environ: Mapping[str, str]) -> Path:
    """Return the path of the file."""
    base = environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base else Path(environ.get("HOME", "~")).expanduser() / ".config") / (
        "token-service/connections.toml"
    )


def read_connection(path: Path, name: str) -> dict[str, str]:
    """Return the values of a named connection. Raises `ConfigurationError`."""
    try:
        content, status = read_regular_with_status(path, _MAX_BYTES)
    except OSError as error:
        raise ConfigurationError(
            f"{path}, the file of connections, can't be read: {error.strerror}; write the connection {name} into it, or "
            "give --target HOST:PORT instead"
        ) from None
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigurationError(
            f"{path} may contain secrets, and other users can read or change it; run: chmod 600 {path}"
        )
    try:
        document = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    table = document.get(name)
    if not isinstance(table, dict):
        raise ConfigurationError(
            f"{path} has no connection [{name}]{did_you_mean(name, document)}; it has: {', '.join(document) or 'none'}"
        )
    found = {}
    for key, value in table.items():
        if key not in KEYS:
            raise ConfigurationError(f"{path}: [{name}] has the unknown key {key}{did_you_mean(key, KEYS)}")
        if not isinstance(value, str | bool):
            raise ConfigurationError(f"{path}: {key} of [{name}] must be a text or true or false")
        found[key] = str(value).lower() if isinstance(value, bool) else value
    return found
