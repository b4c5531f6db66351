"""Keys of the service: from the environment, from a file, or made on the first start of a development server."""

from __future__ import annotations

import logging
import os
import secrets
import stat
from base64 import b64encode
from pathlib import Path
from tempfile import mkstemp

from token_service.config.settings import PREFIX, Settings
from token_service.config.values import KEY_ENCRYPTION_KEY_BYTES, parse_key_encryption_keys
from token_service.errors import ConfigurationError
from token_service.files import read_regular_with_status
from token_service.tokens.secret import Secret

_MAX_BYTES = 64 * 1024

logger = logging.getLogger(__name__)


def load_key_encryption_keys(settings: Settings) -> tuple[Secret, ...]:
    """The keys, the one that encrypts first. Blocks on files.

    In development a missing file is made, with its directory, so that a second start finds the same key.
    Several processes may do so at once: all get the same key. Raises `ConfigurationError`.
    """
    return _load(
        settings, "KEY_ENCRYPTION_KEY_FILE", settings.key_encryption_key, settings.key_encryption_key_file
    )


def load_audit_keys(settings: Settings) -> tuple[Secret, ...]:
    """Return the keys of the audit trail, the one that chains new events first.

    Blocks on files, and makes a missing file in development, as `load_key_encryption_keys` does. Raises
    `ConfigurationError`.
    """
    return _load(settings, "AUDIT_KEY_FILE", settings.audit_key, settings.audit_key_file)


def prepare_data_dir(path: Path) -> None:
    """Make the data directory, readable by its owner alone, if it is not there.

    Raises `ConfigurationError`.
    """
    try:
        if not path.exists():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A database in a checkout is nobody's business to commit.
            (path / ".gitignore").write_text("*\n", encoding="ascii")
    except OSError as error:
        raise ConfigurationError(f"{PREFIX}DATA_DIR: {path} can't be made ({error.strerror})") from None
    if not path.is_dir():
        raise ConfigurationError(f"{PREFIX}DATA_DIR: {path} is not a directory")


def _load(settings: Settings, name: str, keys: tuple[Secret, ...], path: Path) -> tuple[Secret, ...]:
    if keys:
        return keys
    variable = PREFIX + name
    if not settings.is_production and not path.exists():
        _generate(variable, path)
    return _read(variable, path, strict=settings.is_production)


def _read(variable: str, path: Path, *, strict: bool) -> tuple[Secret, ...]:
    try:
        content, status = read_regular_with_status(path, _MAX_BYTES)
        text = content.decode("ascii", errors="replace")
    except OSError as error:
        raise ConfigurationError(
            f"{variable}: {path} can't be read ({error.strerror}); "
            "make a key with `openssl rand -base64 32`, readable by its owner only"
        ) from None
    if exposed := _exposed(status):
        message = f"{variable}: {path} can be {exposed} by others than its owner"
        if strict:
            raise ConfigurationError(f"{message}; run `chmod 600 {path}`")
        logger.warning("%s", message)
    try:
        return parse_key_encryption_keys(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{variable}: {path} holds something else than keys ({error}); "
            f"allowed: {KEY_ENCRYPTION_KEY_BYTES} bytes in base64, one key a line"
        ) from None


def _exposed(status: os.stat_result) -> str | None:
    # A file of root may be read by its group: that is how a secret reaches a service that does not run as
    # root, e.g. in Kubernetes.
    readable = stat.S_IRWXO | (0 if status.st_uid == 0 else stat.S_IRWXG)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "written"
    return "read" if status.st_mode & readable else None


def _generate(variable: str, path: Path) -> None:
    """Make a key file.

    The link decides between processes: a complete file appears at once, and only for one of them.
    """
    prepare_data_dir(path.parent)
    try:
        descriptor, scratch = mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(b64encode(secrets.token_bytes(KEY_ENCRYPTION_KEY_BYTES)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(scratch, path)
            except FileExistsError:
                return
        finally:
            Path(scratch).unlink()
    except OSError as error:
        raise ConfigurationError(f"{variable}: {path} can't be made ({error.strerror})") from None
    logger.info("made a key for development: %s", path)
