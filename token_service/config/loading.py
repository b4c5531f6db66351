"""Values of the settings from command-line flags, environment, TOML file and defaults, in this order.

One `ConfigurationError` reports all problems. It names each setting, its value (redacted if it may be secret) and the
allowed values.
"""

from __future__ import annotations

import errno
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from token_service.config.checks import contradictions, unsafe
from token_service.config.secret_files import read_secret
from token_service.config.setting import PREFIX
from token_service.config.settings import (
    AUDIT_KEY_FILE,
    DATABASE_FILE,
    KEY_ENCRYPTION_KEY_FILE,
    SETTINGS,
    Settings,
    default_issuer,
)
from token_service.config.values import Networks, parse_path
from token_service.errors import ConfigurationError
from token_service.files import read_regular
from token_service.suggestions import did_you_mean, shown
from token_service.urls import DatabaseUrl, UnusableValueError

_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
_IN_FILES: Final = ("database_url", "redis_url", "redis_password", "pkcs11_pin")
"""Settings that hold a secret or a password and whose content may be in a file of its own."""
_MAX_FILE_BYTES: Final = 1024 * 1024
_OF_OTHERS: Final = re.compile(
    r"TOKEN_SERVICE_(POLICY__.+|VENV|PYTHON|TEST_.+"
    # Commands that call a service read these.
    r"|TARGET(_SERVER_NAME|_TLS_CA|_TLS_CERT|_TLS_KEY)?|CONNECTION|CLIENT_ID|(CLIENT_SECRET|CLIENT_KEY|ACCESS_TOKEN)(_FILE)?"
    # Kubernetes sets these for a service whose name is or begins with token-service.
    r"|(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?))"
)
"""Variables with the prefix that other programs read or set."""
_LINK: Final = re.compile(r"(tcp|udp|sctp)://")
"""Beginning of the value of `<SERVICE>_PORT`, which Kubernetes sets, too."""


def load_settings(flags: Mapping[str, str | None], environ: Mapping[str, str]) -> Settings:
    """Load the settings from flags (by name of the setting) and the environment.

    An empty variable counts as not set. Reads the file that `config_file` names and opens all other named files to check
    that they can be read. Changes nothing. Raises `ConfigurationError` with all problems.
    """
    problems: list[str] = []
    raw: dict[str, tuple[str, str]] = {}
    for setting in SETTINGS:
        if flag := flags.get(setting.name):
            raw[setting.name] = (flag, f"flag {setting.flag}")
        elif text := environ.get(setting.variable, "").strip():
            raw[setting.name] = (text, "environment")
    if "config_file" in raw:
        for name, value in _read_file(raw["config_file"][0], problems).items():
            raw.setdefault(name, (value, "file"))

    warnings = [*_read_secrets(raw, problems), *_unknown_variables(environ)]

    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting in SETTINGS:
        given, sources[setting.name] = raw.get(setting.name, (setting.default, "default"))
        if given is None:
            values[setting.name] = None
            continue
        try:
            values[setting.name] = setting.parse(given)
        except ValueError as error:
            cause = str(error) if isinstance(error, UnusableValueError) else "malformed"
            problems.append(
                f"{setting.variable} ({sources[setting.name]}): {setting.show_refused(given)!r} can't be used ({cause}); "
                f"allowed: {setting.allowed}"
            )
    if problems:
        raise refusal(problems)

    data_dir: Path = values["data_dir"]
    values["key_encryption_key"] = values["key_encryption_key"] or ()
    values["audit_key"] = values["audit_key"] or ()
    values["trusted_proxies"] = values["trusted_proxies"] or Networks()
    for name in ("client_metadata_document_hosts", "client_metadata_document_scopes"):
        values[name] = values[name] or ()
    values["client_metadata_document_classification"] = (
        values["client_metadata_document_classification"] or ""
    )
    if values["database_url"] is None:
        values["database_url"] = DatabaseUrl.of_file(data_dir / DATABASE_FILE)
    if values["issuer"] is None:
        values["issuer"] = default_issuer(values["http_address"], tls=values["http_tls"])
    if values["key_encryption_key_file"] is None:
        values["key_encryption_key_file"] = data_dir / KEY_ENCRYPTION_KEY_FILE
    if values["audit_key_file"] is None:
        values["audit_key_file"] = data_dir / AUDIT_KEY_FILE
    settings = Settings(**values, flags=dict(flags), sources=sources, warnings=tuple(warnings))
    problems = [*contradictions(settings), *unsafe(settings)]
    if problems:
        raise refusal(problems)
    return settings


def _read_secrets(raw: dict[str, tuple[str, str]], problems: list[str]) -> Iterator[str]:
    """Add the values of settings whose content is in a file of its own, and yield advice about these files."""
    for name in _IN_FILES:
        file = _BY_NAME[f"{name}_file"]
        if file.name not in raw:
            continue
        if name in raw:
            problems.append(
                f"{_BY_NAME[name].variable} and {file.variable} are both set; allowed: one of the two"
            )
            continue
        path = raw[file.name][0]
        try:
            content, advice = read_secret(parse_path(path))
        except UnusableValueError as error:
            problems.append(f"{file.variable}: {path} can't be used ({error}); allowed: {file.allowed}")
            del raw[file.name]  # its own parser would report the same
            continue
        raw[name] = (content, file.variable)
        if advice is not None:
            yield f"{file.variable}: {advice}"


def refusal(problems: list[str]) -> ConfigurationError:
    """Return one error that lists all problems."""
    if len(problems) == 1:
        return ConfigurationError(problems[0])
    return ConfigurationError(
        "\n".join([f"{len(problems)} settings are wrong:", *(f"  - {p}" for p in problems)])
    )


def _read_file(path: str, problems: list[str]) -> dict[str, str]:
    try:
        content = tomllib.loads(read_regular(parse_path(path), _MAX_FILE_BYTES).decode())
    except OSError as error:
        if error.errno == errno.EFBIG:  # the parser of the setting reports the other errors
            problems.append(f"{PREFIX}CONFIG_FILE: {path} is {error.strerror}")
        return {}
    except UnusableValueError:
        return {}  # the parser of the setting reports it
    except (ValueError, RecursionError) as error:
        problems.append(f"{PREFIX}CONFIG_FILE: {path} is not TOML: {error}")
        return {}
    found: dict[str, str] = {}
    for name, value in content.items():
        if name not in _BY_NAME or name == "config_file":
            problems.append(
                f"{PREFIX}CONFIG_FILE: {path} has the unknown key {name}{did_you_mean(name, _BY_NAME)}"
            )
        elif isinstance(value, bool):
            found[name] = str(value).lower()
        elif isinstance(value, str | int | float):
            found[name] = value if isinstance(value, str) else shown(value)
        else:
            problems.append(
                f"{PREFIX}CONFIG_FILE: {name} in {path} is a {type(value).__name__}; allowed: {_BY_NAME[name].allowed}"
            )
    return {name: value for name, value in found.items() if value}


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    known = {setting.variable for setting in SETTINGS}
    for name in sorted(environ):
        if (
            name.startswith(PREFIX)
            and name not in known
            and not _OF_OTHERS.fullmatch(name)
            and not (name.endswith("_PORT") and _LINK.match(environ[name]))
        ):
            # Compared without the prefix, which alone makes any two names similar.
            near = did_you_mean(name.removeprefix(PREFIX), (each.removeprefix(PREFIX) for each in known))
            yield f"{name} is not a setting and has no effect{near.replace('mean ', f'mean {PREFIX}')}"
