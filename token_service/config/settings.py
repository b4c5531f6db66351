"""The table of settings, and where their values come from.

A value is taken from the first of: command-line flag, environment, TOML file, default. The fields of
`Settings` are the one table behind the parsing, the flags, `token-service config` and the documentation.
Everything wrong is reported at once, in a `ConfigurationError` that names each setting, its value (redacted
where it may be secret) and what is allowed.
"""

# ruff: noqa: RUF009 - each field is a row of the table; `_setting` is `field` with that row as its metadata
from __future__ import annotations

import errno
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from token_service.config.values import (
    Address,
    LogFormat,
    Profile,
    UnixSocket,
    choice,
    one_of,
    parse_address,
    parse_file,
    parse_flag,
    parse_grpc_address,
    parse_issuer,
    parse_key_encryption_keys,
    parse_path,
    parse_redis_url,
    parse_rsa_bits,
    parse_secret,
    seconds,
    whole,
)
from token_service.errors import ConfigurationError
from token_service.files import read_regular
from token_service.suggestions import did_you_mean, shown
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.secret import Secret
from token_service.urls import DatabaseUrl, UnusableValueError, Url, redact_refused

PREFIX: Final = "TOKEN_SERVICE_"
DATABASE_FILE: Final = "token_service.db"
KEY_ENCRYPTION_KEY_FILE: Final = "key-encryption.key"
AUDIT_KEY_FILE: Final = "audit.key"
_FLAG_VALUES: Final = "true or false"
_MAX_FILE_BYTES: Final = 1024 * 1024
_OF_OTHERS: Final = re.compile(
    r"TOKEN_SERVICE_(POLICY__.+|VENV|PYTHON|TEST_.+"
    # What Kubernetes sets for a service whose name is or begins with token-service.
    r"|(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?))"
)
"""Variables that are no settings and yet no mistakes."""
_LINK: Final = re.compile(r"(tcp|udp|sctp)://")
"""How the value of `<SERVICE>_PORT` begins, which Kubernetes sets, too."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    """The field of `Settings`, the key in the file and, with dashes, the flag."""
    parse: Callable[[str], object]
    """From text. Raises `ValueError`."""
    default: str | None
    """As text; None: not set, or derived from other settings."""
    help: str
    allowed: str
    default_help: str
    secret: bool
    """Never shown, and not a flag, for flags are seen by every user of the machine."""
    flag: str
    switch: bool
    """The flag takes no value."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()

    def show_refused(self, text: str) -> str:
        """A value that can't be used as it may be shown."""
        if self.secret:
            return "***"
        return redact_refused(text) if self.name.endswith("_url") or "://" in text or "@" in text else text


def _setting(
    parse: Callable[[str], object],
    default: str | None,
    help: str,  # noqa: A002 - the name click uses
    *,
    allowed: str,
    default_help: str | None = None,
    secret: bool = False,
    flag: str | None = None,
    switch: bool = False,
) -> Any:
    row = {
        "parse": parse,
        "default": default,
        "help": help,
        "allowed": allowed,
        "default_help": default_help if default_help is not None else (default or ""),
        "secret": secret,
        "flag": flag,
        "switch": switch,
    }
    return field(metadata={"setting": row})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, valid and safe together. Times in seconds. Its `repr` shows no secret."""

    grpc_address: Address | UnixSocket = _setting(
        parse_grpc_address,
        "127.0.0.1:50051",
        "Where gRPC listens.",
        allowed="`host:port`; port 0 takes a free one; `unix:/path` for programs of this machine",
    )
    http_address: Address = _setting(
        parse_address,
        "127.0.0.1:8080",
        "Where HTTP listens: key set and health.",
        allowed="`host:port`; port 0 takes a free one",
    )
    database_url: DatabaseUrl = _setting(
        DatabaseUrl.parse,
        None,
        "The database. Put a password into the environment or the file, not into the flag.",
        allowed="`sqlite:///path/to/file` or `postgresql://user:password@host:5432/database`",
        default_help=f"`DATA_DIR/{DATABASE_FILE}` (SQLite)",
    )
    redis_url: Url | None = _setting(
        parse_redis_url,
        None,
        "Redis, to carry revocations between nodes faster and to show them to gateways. Not needed.",
        allowed="`redis://[:password@]host:6379/0`, `rediss://…` or `unix:///path`",
        default_help="none",
    )
    issuer: str = _setting(
        parse_issuer,
        None,
        "The `iss` of all tokens: the base URL of the published key set.",
        allowed="an `https://` URL without query and fragment; `http://` in development only",
        default_help="`http://` and `HTTP_ADDRESS`, in development",
    )
    profile: Profile = _setting(
        one_of(Profile),
        "development",
        "What the service is run for. Development trusts every caller, so it listens on loopback only.",
        allowed="`development` or `production`",
    )
    workers: int = _setting(default="1", help="How many processes share the ports.", **whole(1, 64))
    signing_algorithm: Algorithm = _setting(
        one_of(Algorithm),
        "RS256",
        "How new tokens are signed.",
        allowed="`RS256`, `ES256` or `EdDSA`; `HS256` with `ALLOW_HS256`",
    )
    allow_hs256: bool = _setting(
        parse_flag,
        "false",
        "Allow HS256: whoever can verify such tokens can make them, and no key is published for it.",
        allowed=_FLAG_VALUES,
        switch=True,
    )
    signing_rsa_bits: int = _setting(
        parse_rsa_bits,
        "2048",
        "The size of new RS256 keys.",
        allowed="`2048`, `3072` or `4096`",
    )
    key_rotation_period: float = _setting(
        default="90d", help="How long a key signs before the next one takes over.", **seconds("1s", "3650d")
    )
    key_announce_time: float = _setting(
        default="15m",
        help="How long a key is published before it signs: longer than any validator caches a key set.",
        **seconds("0s", "30d"),
    )
    key_check_interval: float = _setting(
        default="10s", help="How often the keys are looked after.", **seconds("50ms", "1h")
    )
    pkcs11_module: Path | None = _setting(
        parse_file,
        None,
        "The PKCS#11 library of an HSM. If set, new signing keys are made there and never leave it.",
        allowed="a readable library file",
        default_help="keys are kept encrypted in the database",
    )
    pkcs11_token: str = _setting(
        str, "token-service", "The label of the token in the HSM.", allowed="a label"
    )
    pkcs11_pin: Secret | None = _setting(
        parse_secret,
        None,
        "The user PIN of the token.",
        allowed="the PIN, in the environment or the file",
        default_help="none",
        secret=True,
    )
    policy_file: Path | None = _setting(
        parse_file,
        None,
        "Lifetimes and rules for each class of clients (TOML). Read again when it changes.",
        allowed="a readable file",
        default_help="built-in policy",
    )
    data_dir: Path = _setting(
        parse_path,
        ".token-service",
        "Where the SQLite database and a generated key-encryption key are kept.",
        allowed="a directory; it is made if it is not there",
    )
    key_encryption_key: tuple[Secret, ...] = _setting(
        parse_key_encryption_keys,
        None,
        "Encrypts the private keys in the database. Several: the first encrypts, the others still decrypt.",
        allowed="32 bytes in base64 (`openssl rand -base64 32`); several separated by commas",
        default_help="see `KEY_ENCRYPTION_KEY_FILE`",
        secret=True,
    )
    key_encryption_key_file: Path = _setting(
        parse_path,
        None,
        "The key-encryption keys from a file, one a line. In development it is made if it is not there.",
        allowed="a file that only its owner can read",
        default_help=f"`DATA_DIR/{KEY_ENCRYPTION_KEY_FILE}`",
    )
    audit_key: tuple[Secret, ...] = _setting(
        parse_key_encryption_keys,
        None,
        "Chains the events of the audit trail. Several: the first chains new events, the others still verify.",
        allowed="32 bytes in base64 (`openssl rand -base64 32`); several separated by commas",
        default_help="see `AUDIT_KEY_FILE`",
        secret=True,
    )
    audit_key_file: Path = _setting(
        parse_path,
        None,
        "The keys of the audit trail from a file, one a line. In development it is made if it does not exist.",
        allowed="a file that only its owner can read",
        default_help=f"`DATA_DIR/{AUDIT_KEY_FILE}`",
    )
    audit_routine: str = _setting(
        choice("log", "sql"),
        "log",
        "Where issued and refreshed tokens are recorded: as log lines, or as chained rows in the database.",
        allowed="`log` or `sql`",
    )
    audit_retention: float = _setting(
        default="400d",
        help="Age at which audit events in the database are deleted.",
        **seconds("1d", "3650d"),
    )
    audit_checkpoint_interval: float = _setting(
        default="1m", help="Time between two checkpoints of the audit trail.", **seconds("1s", "1d")
    )
    tls_cert_file: Path | None = _setting(
        parse_file,
        None,
        "The server's certificate chain (PEM).",
        allowed="a readable file",
        default_help="no TLS",
    )
    tls_key_file: Path | None = _setting(
        parse_file,
        None,
        "The private key of the certificate (PEM).",
        allowed="a readable file",
        default_help="no TLS",
    )
    tls_client_ca_file: Path | None = _setting(
        parse_file,
        None,
        "The authorities whose client certificates are accepted (PEM).",
        allowed="a readable file",
        default_help="no client certificates",
    )
    log_level: str = _setting(
        choice("debug", "info", "warning", "error"),
        "info",
        "How much to log.",
        allowed="`debug`, `info`, `warning` or `error`",
    )
    log_format: LogFormat = _setting(
        one_of(LogFormat), "text", "How log lines look.", allowed="`text` or `json`"
    )
    max_message_bytes: int = _setting(
        default="5242880", help="The largest request.", **whole(65536, 67108864)
    )
    max_concurrent_calls: int = _setting(
        default="1000", help="Calls one process works on at a time; more are refused.", **whole(1, 100_000)
    )
    max_calls_per_caller: int | None = _setting(
        default=None,
        help="How many of those one caller may have.",
        default_help="half of `MAX_CONCURRENT_CALLS`",
        **whole(1, 100_000),
    )
    max_streams: int = _setting(
        default="5000",
        help="Revocation streams one process keeps open; more are refused.",
        **whole(1, 1_000_000),
    )
    max_streams_per_caller: int | None = _setting(
        default=None,
        help="How many of those one caller may have.",
        default_help="half of `MAX_STREAMS`",
        **whole(1, 1_000_000),
    )
    max_revocations_per_caller: int = _setting(
        default="6000",
        help="Revocations of subjects, clients and token ids (without their token) one caller may make at once at each "
        "process, and again over each minute; more are refused.",
        **whole(1, 10_000_000),
    )
    database_pool_size: int = _setting(
        default="10", help="Connections to PostgreSQL each process keeps.", **whole(2, 1000)
    )
    shutdown_grace: float = _setting(
        default="10s",
        help="How long running calls may take to finish after SIGTERM.",
        **seconds("0s", "10m"),
    )
    replica_poll_interval: float = _setting(
        default="250ms",
        help="How often a process reads the head of the revocation log.",
        **seconds("20ms", "30s"),
    )
    replica_max_age: float = _setting(
        default="10s",
        help="After this long without the database, a process stops answering from what it knows.",
        **seconds("1s", "1h"),
    )
    stream_max_age: float = _setting(
        default="30m",
        help="How long a revocation stream lives before it is ended to be resumed elsewhere.",
        **seconds("1s", "1d"),
    )
    connection_max_age: float = _setting(
        default="30m",
        help="How long a gRPC connection takes new calls. It ends once those it has are over.",
        **seconds("1s", "1d"),
    )
    janitor_interval: float = _setting(
        default="1m",
        help="How often ended sessions and expired revocations are deleted.",
        **seconds("1s", "1d"),
    )
    config_file: Path | None = _setting(
        parse_file,
        None,
        'A TOML file with settings: `grpc_address = "127.0.0.1:50051"`.',
        allowed="a readable TOML file",
        default_help="none",
        flag="--config",
    )

    reuse_port: bool = False
    """Bind with SO_REUSEPORT: other workers listen on the same addresses. Set by the supervisor."""
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Where the value of each setting came from."""
    warnings: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """What is allowed but likely not meant."""

    def listening(self, grpc_address: Address | UnixSocket, http_address: Address) -> Settings:
        """These settings with the addresses that were bound. An issuer that was not set follows them."""
        issuer = default_issuer(http_address) if self.sources.get("issuer") == "default" else self.issuer
        return replace(self, grpc_address=grpc_address, http_address=http_address, issuer=issuer)

    @property
    def is_production(self) -> bool:
        """Whether the profile is production."""
        return self.profile is Profile.PRODUCTION

    @property
    def uses_sqlite(self) -> bool:
        """Whether the database is SQLite."""
        return self.database_url.path is not None


def _table() -> Iterator[Setting]:
    for each in fields(Settings):
        if "setting" in each.metadata:
            row = dict(each.metadata["setting"])
            row["flag"] = row["flag"] or f"--{each.name.replace('_', '-')}"
            yield Setting(name=each.name, **row)


def default_issuer(http_address: Address) -> str:
    """The issuer where none is set: where the key set is published."""
    return f"http://{http_address}"


SETTINGS: Final[tuple[Setting, ...]] = tuple(_table())
"""All rows of the table, in the order they are documented in."""

_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


# --- Loading ----------------------------------------------------------------------------------------------------------


def load_settings(flags: Mapping[str, str | None], environ: Mapping[str, str]) -> Settings:
    """The settings of these flags (by name of the setting) and this environment.

    An empty variable counts as not set. Reads the file that `config_file` names and looks whether the files
    named can be read; changes nothing. Raises `ConfigurationError` with everything that is wrong.
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
    if values["database_url"] is None:
        values["database_url"] = DatabaseUrl.of_file(data_dir / DATABASE_FILE)
    if values["issuer"] is None:
        values["issuer"] = default_issuer(values["http_address"])
    if values["key_encryption_key_file"] is None:
        values["key_encryption_key_file"] = data_dir / KEY_ENCRYPTION_KEY_FILE
    if values["audit_key_file"] is None:
        values["audit_key_file"] = data_dir / AUDIT_KEY_FILE
    settings = Settings(**values, sources=sources, warnings=tuple(_misspelt(environ)))
    problems = [*_contradictions(settings), *_unsafe(settings)]
    if problems:
        raise refusal(problems)
    return settings


def refusal(problems: list[str]) -> ConfigurationError:
    """One error with all problems."""
    if len(problems) == 1:
        return ConfigurationError(problems[0])
    return ConfigurationError(
        "\n".join([f"{len(problems)} settings are wrong:", *(f"  - {p}" for p in problems)])
    )


def _read_file(path: str, problems: list[str]) -> dict[str, str]:
    try:
        content = tomllib.loads(read_regular(parse_path(path), _MAX_FILE_BYTES).decode())
    except OSError as error:
        if error.errno == errno.EFBIG:  # the others are reported by the setting's own check
            problems.append(f"{PREFIX}CONFIG_FILE: {path} is {error.strerror}")
        return {}
    except UnusableValueError:
        return {}  # likewise
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


def _misspelt(environ: Mapping[str, str]) -> Iterator[str]:
    known = {setting.variable for setting in SETTINGS}
    for name in sorted(environ):
        if (
            name.startswith(PREFIX)
            and name not in known
            and not _OF_OTHERS.fullmatch(name)
            and not (name.endswith("_PORT") and _LINK.match(environ[name]))
        ):
            # Without the prefix: it alone makes any two names look alike.
            near = did_you_mean(name.removeprefix(PREFIX), (each.removeprefix(PREFIX) for each in known))
            yield f"{name} is not a setting and has no effect{near.replace('mean ', f'mean {PREFIX}')}"


def _contradictions(settings: Settings) -> Iterator[str]:
    if settings.key_encryption_key and settings.sources["key_encryption_key_file"] != "default":
        yield (
            f"{PREFIX}KEY_ENCRYPTION_KEY and {PREFIX}KEY_ENCRYPTION_KEY_FILE are both set; allowed: one of them. "
            "To change the key, give both keys in one place, the new one first"
        )
    if settings.audit_key and settings.sources["audit_key_file"] != "default":
        yield (
            f"{PREFIX}AUDIT_KEY and {PREFIX}AUDIT_KEY_FILE are both set; allowed: one of them. "
            "To change the key, give both keys in one place, the new one first"
        )
    if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
        yield f"{PREFIX}TLS_CERT_FILE and {PREFIX}TLS_KEY_FILE are not both set; allowed: both or neither"
    if settings.tls_client_ca_file is not None and settings.tls_cert_file is None:
        yield f"{PREFIX}TLS_CLIENT_CA_FILE is set without a certificate of the server; set {PREFIX}TLS_CERT_FILE, too"
    if settings.signing_algorithm is Algorithm.HS256 and not settings.allow_hs256:
        yield (
            f"{PREFIX}SIGNING_ALGORITHM is HS256, with which every validator could make tokens; allowed: RS256, ES256, "
            f"EdDSA. For a closed deployment set {PREFIX}ALLOW_HS256=true, too"
        )
    if settings.pkcs11_module is not None and settings.pkcs11_pin is None:
        yield f"{PREFIX}PKCS11_MODULE is set without a PIN; set {PREFIX}PKCS11_PIN, too"
    if settings.pkcs11_module is not None and settings.signing_algorithm is Algorithm.HS256:
        yield f"{PREFIX}SIGNING_ALGORITHM is HS256, whose keys are not kept in an HSM; allowed: RS256, ES256, EdDSA"
    if isinstance(settings.grpc_address, UnixSocket):
        if settings.workers > 1:
            yield (
                f"{PREFIX}GRPC_ADDRESS is {settings.grpc_address}, which workers can't share; "
                f"set {PREFIX}WORKERS=1, or {PREFIX}GRPC_ADDRESS to `host:port`"
            )
    elif settings.grpc_address == settings.http_address and settings.grpc_address.port:
        yield f"{PREFIX}GRPC_ADDRESS and {PREFIX}HTTP_ADDRESS are both {settings.grpc_address}; allowed: two ports"


def _unsafe(settings: Settings) -> Iterator[str]:
    if not settings.is_production:
        for name, address in (
            ("GRPC_ADDRESS", settings.grpc_address),
            ("HTTP_ADDRESS", settings.http_address),
        ):
            if isinstance(address, Address) and not address.is_loopback:
                yield (
                    f"{PREFIX}{name} is {address}, but the development profile trusts every caller and listens on loopback "
                    f"only; set {PREFIX}{name}=127.0.0.1:{address.port}, or {PREFIX}PROFILE=production"
                )
        return
    missing = [
        f"{PREFIX}{name}"
        for name, value in (
            ("TLS_CERT_FILE", settings.tls_cert_file),
            ("TLS_KEY_FILE", settings.tls_key_file),
            ("TLS_CLIENT_CA_FILE", settings.tls_client_ca_file),
        )
        if value is None
    ]
    if missing:
        yield f"{PREFIX}PROFILE is production, where callers prove who they are by a certificate; set {', '.join(missing)}"
    if not settings.key_encryption_key and settings.sources["key_encryption_key_file"] == "default":
        yield (
            f"{PREFIX}PROFILE is production, where the key-encryption key is not generated; set "
            f"{PREFIX}KEY_ENCRYPTION_KEY_FILE or {PREFIX}KEY_ENCRYPTION_KEY (`openssl rand -base64 32`)"
        )
    if not settings.audit_key and settings.sources["audit_key_file"] == "default":
        yield (
            f"{PREFIX}PROFILE is production, where the key of the audit trail is not generated; make one with "
            f"`openssl rand -base64 32 > audit.key && chmod 600 audit.key`, give it to all nodes, and set "
            f"{PREFIX}AUDIT_KEY_FILE or {PREFIX}AUDIT_KEY"
        )
    if settings.sources["database_url"] == "default":
        yield f"{PREFIX}PROFILE is production, where the database is not a file in the data directory; set {PREFIX}DATABASE_URL"
    elif settings.uses_sqlite and settings.redis_url is not None:
        yield (
            f"{PREFIX}DATABASE_URL is SQLite, which nodes can't share, and {PREFIX}REDIS_URL is there to be shared by "
            f"nodes; set {PREFIX}DATABASE_URL=postgresql://…, or unset {PREFIX}REDIS_URL"
        )
    if settings.sources["issuer"] == "default":
        yield f"{PREFIX}PROFILE is production; set {PREFIX}ISSUER to the https URL the tokens shall name"
    elif not settings.issuer.startswith("https://"):
        yield f"{PREFIX}ISSUER is {settings.issuer}; allowed in production: an https URL"
