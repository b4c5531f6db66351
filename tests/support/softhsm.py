"""A real PKCS#11 module, SoftHSM 2: from the environment, from the usual paths, or from Debian's package."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support import debian

if TYPE_CHECKING:
    from types import TracebackType

MODULE_VARIABLE = "TOKEN_SERVICE_TEST_PKCS11_MODULE"
_UTIL = "softhsm2-util"
_PACKAGES = ("softhsm2", "libsofthsm2", "softhsm2-common")
_CACHE = "softhsm"
_PLACES = (
    "usr/lib/softhsm/libsofthsm2.so",
    "usr/lib/*/softhsm/libsofthsm2.so",
    "usr/lib64/pkcs11/libsofthsm2.so",
    "usr/lib64/softhsm/libsofthsm2.so",
    "usr/lib/pkcs11/libsofthsm2.so",
    "usr/local/lib/softhsm/libsofthsm2.so",
    "opt/homebrew/lib/softhsm/libsofthsm2.so",
)


@dataclass(frozen=True)
class SoftHsm:
    """The module and the program that creates its tokens."""

    module: Path
    util: Path

    @classmethod
    def find(cls) -> SoftHsm:
        """Find or install the module. Raise `RuntimeError` that says what to install."""
        return cls._present() or cls._install()

    @classmethod
    def _present(cls) -> SoftHsm | None:
        named = os.environ.get(MODULE_VARIABLE)
        util = shutil.which(_UTIL)
        if named:
            if not Path(named).is_file() or util is None:
                raise RuntimeError(f"{MODULE_VARIABLE}={named}: no such file, or no {_UTIL} on PATH")
            return cls(Path(named), Path(util))
        for root in (Path("/"), debian.cache(_CACHE)):
            for place in _PLACES:
                for module in sorted(root.glob(place)):
                    beside = root / "usr" / "bin" / _UTIL
                    program = beside if beside.is_file() else Path(util) if util else None
                    if program is not None:
                        return cls(module, program)
        return None

    @classmethod
    def _install(cls) -> SoftHsm:
        """Install with apt: as a package if allowed, else unpacked into a cache directory."""
        found, problem = debian.fetch(_CACHE, _PACKAGES[0], _PACKAGES, cls._present)
        if found is not None:
            return found
        raise RuntimeError(
            f"SoftHSM 2 is needed for the tests of keys in an HSM and could not be installed ({problem}). "
            "Install it, for example: "
            "apt-get install softhsm2 | dnf install softhsm | brew install softhsm, or set "
            f"{MODULE_VARIABLE} to its libsofthsm2.so and put {_UTIL} on PATH."
        )


class SoftHsmToken:
    """A token in its own directory.

    The module reads `SOFTHSM2_CONF` at its initialization: set `environment` before it is opened, in this or another
    process.
    """

    def __init__(self, label: str = "token-service", *, softhsm: SoftHsm | None = None) -> None:
        self.softhsm = softhsm or SoftHsm.find()
        self.label = label
        self.pin = secrets.token_hex(8)
        self._directory = Path(tempfile.mkdtemp(prefix="token-service-softhsm-"))
        self.tokens = self._directory / "tokens"
        """Directory of everything that the module stores."""
        self.tokens.mkdir(mode=0o700)
        self.configuration = self._directory / "softhsm2.conf"
        self.configuration.write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        problem = self._make()
        if problem:
            self.close()
            raise RuntimeError(problem)

    @property
    def module(self) -> str:
        """Path of the module."""
        return str(self.softhsm.module)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process that uses the token."""
        return {"SOFTHSM2_CONF": str(self.configuration)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take_away(self) -> None:
        """Make the module lose its tokens, as if the hardware was unplugged."""
        self.tokens.rename(self._directory / "away")

    def bring_back(self) -> None:
        """Undo `take_away`."""
        (self._directory / "away").rename(self.tokens)

    def close(self) -> None:
        """Delete the token."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _make(self) -> str:
        command = [str(self.softhsm.util), "--module", self.module, "--init-token", "--free"]
        values = ["--label", self.label, "--pin", self.pin, "--so-pin", secrets.token_hex(8)]
        done = subprocess.run(
            [*command, *values],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return "" if done.returncode == 0 else f"{_UTIL} made no token: {done.stdout}{done.stderr}"
