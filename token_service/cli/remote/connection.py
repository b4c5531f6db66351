"""Where the service is, and how a command connects to it: from options, the environment and the file of connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from token_service.cli.remote.connections_file import connections_path, read_connection
from token_service.cli.remote.credentials import CallerProof, NoProof, caller_proof
from token_service.durations import parse_duration
from token_service.errors import ConfigurationError

if TYPE_CHECKING:
    import grpc

VARIABLES: Final = {
    "target": "TOKEN_SERVICE_TARGET",
    "server_name": "TOKEN_SERVICE_TARGET_SERVER_NAME",
    "tls_ca": "TOKEN_SERVICE_TARGET_TLS_CA",
    "tls_cert": "TOKEN_SERVICE_TARGET_TLS_CERT",
    "tls_key": "TOKEN_SERVICE_TARGET_TLS_KEY",
    "issuer": "TOKEN_SERVICE_ISSUER",
    "client_id": "TOKEN_SERVICE_CLIENT_ID",
    "client_secret": "TOKEN_SERVICE_CLIENT_SECRET",
    "client_secret_file": "TOKEN_SERVICE_CLIENT_SECRET_FILE",
    "client_key": "TOKEN_SERVICE_CLIENT_KEY",
    "client_key_file": "TOKEN_SERVICE_CLIENT_KEY_FILE",
    "access_token": "TOKEN_SERVICE_ACCESS_TOKEN",
    "access_token_file": "TOKEN_SERVICE_ACCESS_TOKEN_FILE",
}
"""The environment variable of each value of a connection."""
CONNECTION_VARIABLE: Final = "TOKEN_SERVICE_CONNECTION"
_PROOFS: Final = (
    "client_secret",
    "client_secret_file",
    "client_key",
    "client_key_file",
    "access_token",
    "access_token_file",
)
_TLS: Final = ("server_name", "tls_ca", "tls_cert", "tls_key")
_TIMEOUT: Final = "10s"
_MAX_TIMEOUT: Final = 3600.0
_NO_PROOF: Final = NoProof()


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A connection to the service. Nothing is sent before `open_channel`."""

    target: str
    plain: bool
    """Whether to connect without TLS."""
    server_name: str = ""
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    timeout: float = 10.0
    """Seconds that one call may take."""
    proof: CallerProof = _NO_PROOF

    @property
    def has_proof(self) -> bool:
        """Whether the caller proves itself."""
        return self.tls_cert is not None or not isinstance(self.proof, NoProof)

    def open_channel(self) -> grpc.Channel:
        """Open the channel. Raises `ConfigurationError` for unusable certificates."""
        import grpc

        from token_service.client._internal.channel import NO_PROXY, is_local
        from token_service.client._internal.credentials import CredentialFiles

        options = [("grpc.max_receive_message_length", 16 * 1024 * 1024)]
        if is_local(self.target):
            options.append(NO_PROXY)
        if self.plain:
            return grpc.insecure_channel(self.target, options)
        files = CredentialFiles(roots=self.tls_ca, certificate_chain=self.tls_cert, private_key=self.tls_key)
        try:
            credentials = files().for_grpc()
        except OSError as error:
            raise ConfigurationError(f"{error.filename} can't be read: {error.strerror}") from None
        named: list[tuple[str, str | int]] = []
        if self.server_name:
            named = [
                ("grpc.ssl_target_name_override", self.server_name),
                ("grpc.default_authority", self.server_name),
            ]
        return grpc.secure_channel(self.target, credentials, [*options, *named])


def find_connection(options: Mapping[str, str | None], environ: Mapping[str, str]) -> Connection | None:
    """Return the connection that the options, the environment and the file of connections describe.

    An option counts before its variable, and both before the file. A proof in the environment replaces the one of the
    file. None: no target is named. An empty `--target` names none, either. Raises `ConfigurationError`.
    """
    given = {name: value for name, value in options.items() if value is not None}
    name = given.pop("connection", "") or ("" if "target" in given else environ.get(CONNECTION_VARIABLE, ""))
    from_environ = {
        key: text for key, variable in VARIABLES.items() if (text := environ.get(variable, "").strip())
    }
    values: dict[str, str] = {}
    if name:
        values = read_connection(connections_path(environ), name)
        if any(key in from_environ for key in _PROOFS):
            values = {key: value for key, value in values.items() if key not in _PROOFS}
        if options.get("connection"):
            from_environ.pop("target", None)  # the named connection is the nearer word
    values = {**values, **from_environ, **given}
    if not values.get("target"):
        if rest := [key for key in given if key != "target"]:
            raise ConfigurationError(
                f"--{rest[0].replace('_', '-')} needs a service to connect to: give --target or --connection"
            )
        return None
    return _connection(values)


def _connection(values: Mapping[str, str]) -> Connection:
    from token_service.client._internal.channel import is_local

    target = values["target"]
    scheme, separator, rest = target.partition("://")
    if separator and scheme.lower() in {"http", "https", "grpc", "grpcs"}:
        raise ConfigurationError(
            f"the target {target} is a URL; write the address of gRPC as HOST:PORT, for example {rest.rstrip('/')}"
        )
    tls = [name for name in _TLS if values.get(name)]
    insecure = values.get("insecure") == "true"
    if insecure and tls:
        raise ConfigurationError(f"insecure and {tls[0]} contradict each other; remove one")
    if bool(values.get("tls_cert")) != bool(values.get("tls_key")):
        raise ConfigurationError("a client certificate needs both tls_cert and tls_key")
    return Connection(
        target=target,
        plain=insecure or (not tls and is_local(target)),
        server_name=values.get("server_name", ""),
        tls_ca=_path(values, "tls_ca"),
        tls_cert=_path(values, "tls_cert"),
        tls_key=_path(values, "tls_key"),
        timeout=_timeout(values.get("timeout", _TIMEOUT)),
        proof=caller_proof(values),
    )


def _path(values: Mapping[str, str], name: str) -> Path | None:
    return Path(text).expanduser() if (text := values.get(name)) else None


def _timeout(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ConfigurationError(f"timeout: {text!r} is {error}; write for example 10s") from None
    if not 0 < seconds <= _MAX_TIMEOUT:
        raise ConfigurationError(f"timeout: {text} must be more than 0 and at most 1h")
    return seconds
