"""A real nginx: from PATH or /usr/sbin, or from Debian's package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.support import debian
from tests.support.proxy_process import ProxyProcess

_CACHE = "nginx"


def find_nginx() -> Path:
    """Return the program, installing it if possible. Raise `RuntimeError` that says what to install."""
    found, problem = _present(), ""
    if found is None:
        found, problem = debian.fetch(_CACHE, "nginx", (), _present)
    if found is None:
        raise RuntimeError(
            f"nginx is needed for these tests and could not be installed ({problem}). "
            "Install it, for example: apt-get install nginx | dnf install nginx | brew install nginx"
        )
    return found


def _present() -> Path | None:
    places = os.pathsep.join(
        (os.environ.get("PATH", os.defpath), "/usr/sbin", f"{debian.cache(_CACHE)}/usr/sbin")
    )
    found = shutil.which("nginx", path=places)
    return Path(found) if found else None


class Nginx(ProxyProcess):
    """An nginx with one worker. Its temporary files are in its directory, and it runs as the user of the tests."""

    def command(self) -> Sequence[str | os.PathLike[str]]:
        """Return the command."""
        temporary = "".join(
            f"{name}_temp_path {self.directory}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        settings = self.write(
            "nginx.conf", self.configuration.replace("http {\n", f"http {{\n{temporary}", 1)
        )
        user = "user root; " if os.geteuid() == 0 else ""  # else workers of root could not reach its sockets
        return [
            find_nginx(),
            "-p",
            self.directory,
            "-e",
            "stderr",
            "-c",
            settings,
            "-g",
            f"{user}daemon off; worker_processes 1;",
        ]
