"""The table of settings.

The fields of `Settings` are the one table behind the parsing, the flags, `token-service config` and the documentation.
"""

# ruff: noqa: RUF009 - each field is a row of the table; `setting` is `field` with that row as its metadata
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Final

from token_service.config.setting import Setting, setting
from token_service.config.values import (
    Address,
    LogFormat,
    MetricsPlace,
    Networks,
    Profile,
    UnixSocket,
    choice,
    one_of,
    parse_address,
    parse_file,
    parse_flag,
    parse_grpc_address,
    parse_hosts,
    parse_issuer,
    parse_key,
    parse_key_encryption_keys,
    parse_metrics_address,
    parse_networks,
    parse_path,
    parse_rsa_bits,
    parse_scopes,
    parse_secret,
    seconds,
    whole,
)
from token_service.core.clients.client import SecurityProfile
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.secret import Secret
from token_service.urls import DatabaseUrl, RedisUrl

DATABASE_FILE: Final = "token_service.db"
KEY_ENCRYPTION_KEY_FILE: Final = "key-encryption.key"
AUDIT_KEY_FILE: Final = "audit.key"
_FLAG_VALUES: Final = "true or false"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, valid and safe if `load_settings` returns them. Times are in seconds. The `repr` shows no secret."""

    grpc_address: Address | UnixSocket = setting(
        parse_grpc_address,
        "127.0.0.1:50051",
        "The address that gRPC listens on.",
        allowed="`host:port`; port 0 takes a free port; `unix:/path` for programs on this machine",
    )
    grpc_token_address: Address | None = setting(
        parse_address,
        None,
        "A second address for gRPC, for callers without a client certificate. They prove themselves in the metadata.",
        allowed="`host:port`; port 0 takes a free port",
        default_help="no second address",
    )
    http_address: Address = setting(
        parse_address,
        "127.0.0.1:8080",
        "The address that HTTP listens on, for OAuth clients, the key set and health.",
        allowed="`host:port`; port 0 takes a free port",
    )
    metrics_address: Address | MetricsPlace | None = setting(
        parse_metrics_address,
        None,
        "The address that `/metrics` is served on, without TLS: choose one that only the monitoring can reach.",
        allowed="`host:port`; `http`: `HTTP_ADDRESS`, where everyone can read it; `off`",
        default_help="`http` in development, `off` in production",
    )
    metrics_top_clients: int = setting(
        default="20",
        help="Clients with a label of their own in the metrics of each process; the others count as `other`.",
        **whole(0, 1000),
    )
    trace_sampling_by_callers: bool = setting(
        parse_flag,
        "false",
        "Whether callers decide which of their calls are traced. If not, `OTEL_TRACES_SAMPLER` limits them, too.",
        allowed=_FLAG_VALUES,
        switch=True,
    )
    http_tls: bool = setting(
        parse_flag,
        "false",
        "Serve HTTP with TLS, with the certificate of `TLS_CERT_FILE`. A client certificate is optional there.",
        allowed=_FLAG_VALUES,
        switch=True,
    )
    trusted_proxies: Networks = setting(
        parse_networks,
        None,
        "The proxies in front of HTTP. Only their headers about their clients are believed.",
        allowed="up to 32 addresses and networks, such as `10.1.2.0/24`, separated by commas",
        default_help="none",
    )
    proxy_header: str = setting(
        choice("x-forwarded", "forwarded"),
        "x-forwarded",
        "The header in which trusted proxies tell the address and the scheme of their client.",
        allowed="`x-forwarded` (`X-Forwarded-For` and `-Proto`) or `forwarded` (RFC 7239)",
    )
    proxy_client_cert: bool = setting(
        parse_flag,
        "false",
        "Believe `Client-Cert` (RFC 9440) of trusted proxies. They must remove it from the requests of their clients.",
        allowed=_FLAG_VALUES,
        switch=True,
    )
    database_url: DatabaseUrl = setting(
        DatabaseUrl.parse,
        None,
        "The database. Put a password into the environment or the file, not into the flag.",
        allowed="`sqlite:///path/to/file` or `postgresql://user:password@host:5432/database`",
        default_help=f"`DATA_DIR/{DATABASE_FILE}` (SQLite)",
    )
    database_url_file: Path | None = setting(
        parse_file,
        None,
        "A file with the URL of the database, instead of `DATABASE_URL`. A final newline is ignored.",
        allowed="a file that only its owner can read (mode 0400 or 0600)",
        default_help="none",
    )
    redis_url: RedisUrl | None = setting(
        RedisUrl.parse,
        None,
        "Optional: Redis, to carry revocations between nodes faster, to show them to gateways and to count rates for all nodes.",
        allowed="`redis://[user:password@]host:6379/0`, `redis+sentinel://host:26379,host:26379/master`, "
        "`redis+cluster://host:6379,host:6379`, each with `rediss` for TLS, or `unix:///path`",
        default_help="none",
    )
    redis_url_file: Path | None = setting(
        parse_file,
        None,
        "A file with the URL of Redis, instead of `REDIS_URL`. A final newline is ignored.",
        allowed="a file that only its owner can read (mode 0400 or 0600)",
        default_help="none",
    )
    redis_password: Secret | None = setting(
        parse_secret,
        None,
        "The password of the user of `REDIS_URL`, if the URL has none.",
        allowed="the password, in the environment or the file",
        default_help="none",
        secret=True,
    )
    redis_password_file: Path | None = setting(
        parse_file,
        None,
        "A file with the password, instead of `REDIS_PASSWORD`. A final newline is ignored.",
        allowed="a file that only its owner can read (mode 0400 or 0600)",
        default_help="none",
    )
    redis_tls_ca_file: Path | None = setting(
        parse_file,
        None,
        "The authorities whose certificates of Redis servers and sentinels are accepted (PEM).",
        allowed="a readable file, with a `rediss` URL",
        default_help="the authorities of the machine",
    )
    redis_tls_cert_file: Path | None = setting(
        parse_file,
        None,
        "The certificate that proves this service to Redis (PEM).",
        allowed="a readable file, with a `rediss` URL",
        default_help="none",
    )
    redis_tls_key_file: Path | None = setting(
        parse_file,
        None,
        "The private key of that certificate (PEM, not encrypted).",
        allowed="a readable file, with a `rediss` URL",
        default_help="none",
    )
    issuer: str = setting(
        parse_issuer,
        None,
        "The `iss` of all tokens: the base URL of the published key set.",
        allowed="an `https://` URL without query and fragment; `http://` in development only",
        default_help="`http://` (`https://` with `HTTP_TLS`) and `HTTP_ADDRESS`, in development",
    )
    profile: Profile = setting(
        one_of(Profile),
        "development",
        "The purpose of the service. Development trusts every caller, so it listens on loopback only.",
        allowed="`development` or `production`",
    )
    workers: int = setting(default="1", help="The number of processes that share the ports.", **whole(1, 64))
    signing_algorithm: Algorithm = setting(
        one_of(Algorithm),
        "RS256",
        "The algorithm that signs new tokens.",
        allowed="`RS256`, `PS256`, `ES256` or `EdDSA`; `HS256` with `ALLOW_HS256`",
    )
    allow_hs256: bool = setting(
        parse_flag,
        "false",
        "Allow HS256. Every validator of such tokens can also make them, and no key is published for it.",
        allowed=_FLAG_VALUES,
        switch=True,
    )
    signing_rsa_bits: int = setting(
        parse_rsa_bits,
        "2048",
        "The size of new RSA keys.",
        allowed="`2048`, `3072` or `4096`",
    )
    key_rotation_period: float = setting(
        default="90d", help="How long a key signs before the next key replaces it.", **seconds("1s", "3650d")
    )
    key_announce_time: float = setting(
        default="15m",
        help="How long a key is published before it signs. Must be longer than any validator caches a key set.",
        **seconds("0s", "30d"),
    )
    key_check_interval: float = setting(
        default="10s", help="How often a process checks the keys and rotates them.", **seconds("50ms", "1h")
    )
    pkcs11_module: Path | None = setting(
        parse_file,
        None,
        "The PKCS#11 library of an HSM. If set, new signing keys are generated in the HSM and never leave it.",
        allowed="a readable library file",
        default_help="keys are kept encrypted in the database",
    )
    pkcs11_token: str = setting(str, "token-service", "The label of the token in the HSM.", allowed="a label")
    pkcs11_pin: Secret | None = setting(
        parse_secret,
        None,
        "The user PIN of the token.",
        allowed="the PIN, in the environment or the file",
        default_help="none",
        secret=True,
    )
    pkcs11_pin_file: Path | None = setting(
        parse_file,
        None,
        "A file with the user PIN, instead of `PKCS11_PIN`. A final newline is ignored.",
        allowed="a file that only its owner can read (mode 0400 or 0600)",
        default_help="none",
    )
    templates_dir: Path | None = setting(
        parse_path,
        None,
        "A directory of templates that replace the pages for browsers, by the same names.",
        allowed="a directory",
        default_help="built-in pages",
    )
    console_client_id: str | None = setting(
        str,
        None,
        "The registered client that the operators' console logs in with.",
        allowed="the id of a client",
        default_help="open to this machine in development, off in production",
    )
    policy_file: Path | None = setting(
        parse_file,
        None,
        "Lifetimes and rules for each class of clients (TOML). A changed file takes effect within seconds.",
        allowed="a readable file",
        default_help="built-in policy",
    )
    data_dir: Path = setting(
        parse_path,
        ".token-service",
        "The directory of the SQLite database and of a generated key-encryption key.",
        allowed="a directory; created if missing",
    )
    key_encryption_key: tuple[Secret, ...] = setting(
        parse_key_encryption_keys,
        None,
        "The keys that encrypt the private keys in the database. The first one encrypts, all of them decrypt.",
        allowed="32 bytes in base64 (`openssl rand -base64 32`); several separated by commas",
        default_help="see `KEY_ENCRYPTION_KEY_FILE`",
        secret=True,
    )
    key_encryption_key_file: Path = setting(
        parse_path,
        None,
        "A file with the key-encryption keys, one per line. In development a missing file is created.",
        allowed="a file that only its owner can read",
        default_help=f"`DATA_DIR/{KEY_ENCRYPTION_KEY_FILE}`",
    )
    audit_key: tuple[Secret, ...] = setting(
        parse_key_encryption_keys,
        None,
        "The keys that chain the events of the audit trail. The first one chains new events, all of them verify.",
        allowed="32 bytes in base64 (`openssl rand -base64 32`); several separated by commas",
        default_help="see `AUDIT_KEY_FILE`",
        secret=True,
    )
    audit_key_file: Path = setting(
        parse_path,
        None,
        "A file with the keys of the audit trail, one per line. In development a missing file is created.",
        allowed="a file that only its owner can read",
        default_help=f"`DATA_DIR/{AUDIT_KEY_FILE}`",
    )
    pairwise_key: Secret | None = setting(
        parse_key,
        None,
        "The key of pairwise subjects, the same at all nodes. Never change or lose it: every pairwise subject would change.",
        allowed="32 bytes in base64 (`openssl rand -base64 32`)",
        default_help="none: no client can have pairwise subjects",
        secret=True,
    )
    pairwise_key_file: Path | None = setting(
        parse_file,
        None,
        "A file with the key of pairwise subjects.",
        allowed="a file that only its owner can read",
        default_help="none",
    )
    personal_data_encryption: str = setting(
        choice("auto", "on", "off"),
        "auto",
        "Whether a new database stores personal data encrypted. `auto`: in production. A database that holds personal data "
        "stays as it is; `on` refuses to start on an unencrypted one.",
        allowed="`auto`, `on` or `off`",
    )
    audit_routine: str = setting(
        choice("log", "sql", "events"),
        "log",
        "The place of records of routine events, such as issued and refreshed tokens: log lines, chained rows in the "
        "database, or such rows and the event log.",
        allowed="`log`, `sql` or `events`",
        reloadable=True,
    )
    audit_retention: float = setting(
        default="400d",
        help="Age at which audit events in the database are deleted.",
        reloadable=True,
        **seconds("1d", "3650d"),
    )
    event_retention: float = setting(
        default="7d",
        help="Age at which events are deleted from the event log. A reader that was away for longer misses events.",
        reloadable=True,
        **seconds("1h", "90d"),
    )
    audit_checkpoint_interval: float = setting(
        default="1m",
        help="Time between two checkpoints of the audit trail.",
        reloadable=True,
        **seconds("1s", "1d"),
    )
    tls_cert_file: Path | None = setting(
        parse_file,
        None,
        "The server's certificate chain (PEM).",
        allowed="a readable file",
        default_help="no TLS",
    )
    tls_key_file: Path | None = setting(
        parse_file,
        None,
        "The private key of the certificate (PEM).",
        allowed="a readable file",
        default_help="no TLS",
    )
    tls_client_ca_file: Path | None = setting(
        parse_file,
        None,
        "The authorities whose client certificates are accepted (PEM).",
        allowed="a readable file",
        default_help="no client certificates",
    )
    log_level: str = setting(
        choice("debug", "info", "warning", "error"),
        "info",
        "The lowest level of log lines.",
        allowed="`debug`, `info`, `warning` or `error`",
        reloadable=True,
    )
    log_format: LogFormat = setting(
        one_of(LogFormat), "text", "The format of log lines.", allowed="`text` or `json`"
    )
    max_message_bytes: int = setting(
        default="5242880", help="The largest request in bytes.", **whole(65536, 67108864)
    )
    max_concurrent_calls: int = setting(
        default="1000",
        help="Concurrent calls of one process; more are refused.",
        reloadable=True,
        **whole(1, 100_000),
    )
    max_calls_per_caller: int | None = setting(
        default=None,
        help="Concurrent calls of one caller at one process; more are refused.",
        default_help="half of `MAX_CONCURRENT_CALLS`",
        reloadable=True,
        **whole(1, 100_000),
    )
    max_streams: int = setting(
        default="5000",
        help="Open revocation streams of one process; more are refused.",
        reloadable=True,
        **whole(1, 1_000_000),
    )
    max_streams_per_caller: int | None = setting(
        default=None,
        help="Open revocation streams of one caller at one process; more are refused.",
        default_help="half of `MAX_STREAMS`",
        reloadable=True,
        **whole(1, 1_000_000),
    )
    max_revocations_per_caller: int = setting(
        default="6000",
        help="Revocations of subjects, clients and token ids (without their token) one caller may make at once at each "
        "process, and again over each minute; more are refused. A caller's rate `revoke_names` in the policy file replaces it.",
        reloadable=True,
        **whole(1, 10_000_000),
    )
    require_registered_clients: bool = setting(
        parse_flag,
        "false",
        "Give tokens only to clients that are registered (`token-service clients create`).",
        allowed=_FLAG_VALUES,
        switch=True,
    )
    minimum_security_profile: SecurityProfile = setting(
        one_of(SecurityProfile),
        "none",
        "The security profile that every client has at least: `fapi2` is the FAPI 2.0 Security Profile.",
        allowed="`none` or `fapi2`",
    )
    client_metadata_documents: bool = setting(
        parse_flag,
        "false",
        "Accept the https URL of a client metadata document as `client_id`, as MCP clients have it. The document is fetched.",
        allowed=_FLAG_VALUES,
        switch=True,
    )
    client_metadata_document_hosts: tuple[str, ...] = setting(
        parse_hosts,
        None,
        "The hosts that client metadata documents, and keys which they name, may be at.",
        allowed="names of hosts, and `*.` with a domain, separated by commas",
        default_help="any host of the public Internet",
    )
    client_metadata_document_scopes: tuple[str, ...] = setting(
        parse_scopes,
        None,
        "The scopes that clients which a metadata document describes may get at the token endpoint.",
        allowed="scopes, separated by commas or spaces",
        default_help="none",
    )
    client_metadata_document_classification: str = setting(
        str,
        None,
        "The classification of clients that a metadata document describes.",
        allowed="one of the policy file",
        default_help="as in the policy file",
    )
    allow_private_jwks_uri: bool = setting(
        parse_flag,
        "false",
        "Fetch the `jwks_uri` and the `sector_identifier_uri` of registered clients from private addresses, too.",
        allowed=_FLAG_VALUES,
        switch=True,
    )
    allow_private_logout_uri: bool = setting(
        parse_flag,
        "false",
        "Send logouts to a `backchannel_logout_uri` with private addresses, too.",
        allowed=_FLAG_VALUES,
        switch=True,
    )
    allow_private_event_receivers: bool = setting(
        parse_flag,
        "false",
        "Push the events of event streams to receivers with private addresses, too.",
        allowed=_FLAG_VALUES,
        switch=True,
    )
    allow_private_webhook_url: bool = setting(
        parse_flag,
        "false",
        "Send events to webhooks with private addresses, too, and with `http` to loopback addresses.",
        allowed=_FLAG_VALUES,
        switch=True,
    )
    webhook_attempts: int = setting(
        default="8",
        help="Attempts to deliver an event to a webhook before it goes on with the next event.",
        **whole(1, 20),
    )
    webhook_retry_time: float = setting(
        default="1h",
        help="Time between the first and the last of these attempts.",
        **seconds("1s", "24h"),
    )
    database_pool_size: int = setting(
        default="10", help="Connections of each process to PostgreSQL.", **whole(2, 1000)
    )
    shutdown_grace: float = setting(
        default="10s",
        help="Time for running calls to finish after SIGTERM.",
        **seconds("0s", "10m"),
    )
    replica_poll_interval: float = setting(
        default="250ms",
        help="How often a process reads the head of the revocation log.",
        **seconds("20ms", "30s"),
    )
    replica_max_age: float = setting(
        default="10s",
        help="Time without the database after which a process stops answering from its copy of the log.",
        **seconds("1s", "1h"),
    )
    lossy_failover: str = setting(
        choice("stop", "continue"),
        "stop",
        "After the promotion of a standby that may lack revocations: `stop` until an operator renews the log, or `continue` "
        "with the revocations that running nodes know.",
        allowed="`stop` or `continue`",
    )
    stream_max_age: float = setting(
        default="30m",
        help="Lifetime of a revocation stream. It then ends, and its subscriber resumes it at any node.",
        **seconds("1s", "1d"),
    )
    connection_max_age: float = setting(
        default="30m",
        help="Time for which a gRPC connection accepts new calls. It closes after its last call ends.",
        **seconds("1s", "1d"),
    )
    janitor_interval: float = setting(
        default="1m",
        help="How often ended sessions and expired revocations are deleted.",
        reloadable=True,
        **seconds("1s", "1d"),
    )
    config_file: Path | None = setting(
        parse_file,
        None,
        'A TOML file with settings: `grpc_address = "127.0.0.1:50051"`.',
        allowed="a readable TOML file",
        default_help="none",
        flag="--config",
    )

    reuse_port: bool = False
    """Bind with SO_REUSEPORT, because other workers listen on the same addresses. Set by the supervisor."""
    flags: Mapping[str, str | None] = field(default_factory=dict, repr=False, compare=False)
    """The flags that the settings were loaded with. No secret is a flag."""
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Source of each setting: flag, environment, file or default."""
    warnings: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """Likely mistakes that do not prevent a start."""

    @property
    def addresses(self) -> Iterator[tuple[str, Address | UnixSocket]]:
        """The configured addresses with the names of their settings."""
        yield "GRPC_ADDRESS", self.grpc_address
        if self.grpc_token_address is not None:
            yield "GRPC_TOKEN_ADDRESS", self.grpc_token_address
        yield "HTTP_ADDRESS", self.http_address
        if isinstance(self.metrics_address, Address):
            yield "METRICS_ADDRESS", self.metrics_address

    def listening(self, grpc_address: Address | UnixSocket, http_address: Address) -> Settings:
        """Return these settings with the bound addresses. A default issuer follows the HTTP address."""
        issuer = (
            default_issuer(http_address, tls=self.http_tls)
            if self.sources.get("issuer") == "default"
            else self.issuer
        )
        return replace(self, grpc_address=grpc_address, http_address=http_address, issuer=issuer)

    @property
    def metrics_place(self) -> Address | MetricsPlace:
        """The place of the page of metrics, with the default of the profile."""
        default = MetricsPlace.OFF if self.is_production else MetricsPlace.HTTP
        return default if self.metrics_address is None else self.metrics_address

    @property
    def has_console(self) -> bool:
        """Whether the operators' console is served."""
        return self.console_client_id is not None or not self.is_production

    @property
    def shows_metrics(self) -> bool:
        """Whether the metrics of the workers are shown: on a page, or by the charts of the console."""
        return self.metrics_place is not MetricsPlace.OFF or self.has_console

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


def default_issuer(http_address: Address, *, tls: bool) -> str:
    """Return the issuer used if none is set: the base URL of the published key set."""
    return f"{'https' if tls else 'http'}://{http_address}"


SETTINGS: Final[tuple[Setting, ...]] = tuple(_table())
"""All rows of the table, in the order of the documentation."""
