"""A real Apache with mod_auth_openidc: from the machine, or from Debian's packages."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support import debian
from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tests.support.certificates import Authority

_CACHE = "apache"
_PACKAGE = "libapache2-mod-auth-openidc"
_MODULES = (
    "mpm_event", "alias", "authn_core", "authz_core", "authz_user", "auth_openidc", "dir", "env", "include", "mime",
    "socache_shmcb", "ssl",
)  # fmt: skip
_CONFIGURATION = """
ServerRoot {directory}
ServerName localhost
PidFile {directory}/pid
DefaultRuntimeDir {directory}
ErrorLog {directory}/log
LogLevel warn auth_openidc:info
Mutex file:{directory}
TypesConfig /dev/null
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml
DirectoryIndex index.shtml
DocumentRoot {directory}/pages
StartServers 1
ThreadsPerChild 16
MaxRequestWorkers 16
ServerLimit 1
{modules}
{user}
<Directory {directory}/pages>
    Options +Includes
    Require all granted
</Directory>
<Location /protected>
    AuthType openid-connect
    Require valid-user
</Location>
"""
_SITE = """
Listen 127.0.0.1:{port} https
<VirtualHost 127.0.0.1:{port}>
    ServerName localhost
    SSLEngine on
    SSLCertificateFile {directory}/certificate.pem
    SSLCertificateKeyFile {directory}/key.pem
    OIDCRedirectURI https://127.0.0.1:{port}/protected/callback
    OIDCCryptoPassphrase a-passphrase-for-the-cookies-of-a-test
    OIDCCABundlePath {directory}/ca.pem
    OIDCPKCEMethod S256
    OIDCCacheType file
    OIDCCacheDir {directory}/cache-{port}
    Redirect 303 /moved https://localhost:{port}/
    {directives}
</VirtualHost>
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Protected</title></head><body>
<h1>Protected page</h1>
<p>user <!--#echo var="REMOTE_USER" --></p>
<p>subject <!--#echo var="OIDC_CLAIM_sub" --></p>
<p>name <!--#echo var="OIDC_CLAIM_name" --></p>
<p>access token <!--#echo var="OIDC_access_token" --></p>
</body></html>
"""


@dataclass(frozen=True)
class Found:
    """The program and the directory of its modules."""

    program: Path
    modules: Path


def find_apache() -> Found:
    """Return the program, installing it if possible. Raise `RuntimeError` that says what to install."""
    found, problem = _present(), ""
    if found is None:
        found, problem = debian.fetch(_CACHE, _PACKAGE, (), _present)
    if found is None:
        raise RuntimeError(
            f"Apache with mod_auth_openidc is needed for these tests and could not be installed ({problem}). "
            "Install it, for example: apt-get install apache2 libapache2-mod-auth-openidc"
        )
    return found


def _present() -> Found | None:
    for root in (Path("/"), debian.cache(_CACHE)):
        found = Found(root / "usr/sbin/apache2", root / "usr/lib/apache2/modules")
        if found.program.exists() and (found.modules / "mod_auth_openidc.so").exists():
            return found
    return None


class Apache:
    """One server with a site for each relying party, at https://127.0.0.1.

    Each site has a public page `/` and protects `/protected/`, whose page shows the user, the subject, the name and the access token. The redirect URI is
    `callback` below it. `/moved` redirects to https://localhost, which is another origin.
    """

    def __init__(self, authority: Authority) -> None:
        """`authority` signs the certificate of the sites, and they trust it."""
        self._authority = authority
        self._sites: list[str] = []
        self._ports: list[int] = []
        self._directory = Path(tempfile.mkdtemp(prefix="token-service-apache-"))
        self._process: ManagedProcess | None = None

    def site(
        self,
    ) -> str:
        """Reserve a port and return the URL of a site, without a trailing slash."""
        self._ports.append(free_port())
        return f"https://127.0.0.1:{self._ports[-1]}"

    def configure(self, url: str, directives: Sequence[str]) -> None:
        """Give a site the directives of mod_auth_openidc for its provider and client."""
        port = int(url.rsplit(":", 1)[1])
        (self._directory / f"cache-{port}").mkdir()
        self._sites.append(
            _SITE.format(
                port=port,
                directory=self._directory,
                directives="\n    ".join(directives),
            )
        )

    def file(self, name: str, content: bytes) -> Path:
        """Write a file that the configuration names, and return its path."""
        path = self._directory / name
        path.write_bytes(content)
        return path

    def __enter__(self) -> Self:
        found = find_apache()
        page = self._directory / "pages" / "protected"
        page.mkdir(parents=True)
        (page / "index.shtml").write_text(_PAGE)
        (page.parent / "index.shtml").write_text("<!doctype html><title>Public</title><h1>Public page</h1>")
        own = self._authority.server()
        for name, content in (
            ("ca.pem", self._authority.certificate),
            ("certificate.pem", own.certificate),
            ("key.pem", own.key),
        ):
            self.file(name, content)
        modules = [
            f"LoadModule {name}_module {found.modules}/mod_{name}.so"
            for name in _MODULES
            if (found.modules / f"mod_{name}.so").exists()  # some builds have it inside the program
        ]
        user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
        settings = self.file(
            "apache.conf",
            "\n".join(
                [
                    _CONFIGURATION.format(directory=self._directory, modules="\n".join(modules), user=user),
                    *self._sites,
                ]
            ).encode(),
        )
        if os.geteuid() == 0:
            shutil.chown(self._directory, "www-data")
            for path in self._directory.rglob("*"):
                shutil.chown(path, "www-data")
        libraries = [str(path) for path in debian.cache(_CACHE).glob("usr/lib/*-linux-*")]
        self._process = ManagedProcess(
            [found.program, "-D", "FOREGROUND", "-f", settings],
            log=self._directory / "output",
            env={"PATH": os.environ.get("PATH", os.defpath), "LD_LIBRARY_PATH": os.pathsep.join(libraries)},
            cwd=self._directory,
        )
        try:
            eventually_sync(self._listens)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
        print(self.log_text()[-8000:])  # pytest shows it if a test failed
        shutil.rmtree(self._directory, ignore_errors=True)
        for port in self._ports:
            release_port(port)

    def log_text(self) -> str:
        """Return the messages of the server."""
        log = self._directory / "log"
        output = self._process.log_text() if self._process is not None else ""
        return output + (log.read_text(errors="replace") if log.exists() else "")

    def _listens(self) -> bool:
        assert self._process is not None
        if not self._process.running:
            raise RuntimeError(f"Apache ended while starting:\n{self.log_text()[-4000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._ports[0]), 1):
            return True
        return False
