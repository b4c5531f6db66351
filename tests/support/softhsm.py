"""A real PKCS#11 module, SoftHSM 2: one from the environment, one on the usual paths, or Debian's package."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

MODULE_VARIABLE = "TOKEN_SERVICE_TEST_PKCS11_MODULE"
_UTIL = "softhsm2-util"
_PACKAGES = ("softhsm2", "libsofthsm2", "softhsm2-common")
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
    """The module, and the program that makes its tokens."""

    module: Path
    util: Path

    @classmethod
    def find(cls) -> SoftHsm:
        """Find it, and install it where that is possible. Raises `RuntimeError` that says what to install."""
        return cls._present() or cls._install()

    @classmethod
    def _present(cls) -> SoftHsm | None:
        named = os.environ.get(MODULE_VARIABLE)
        util = shutil.which(_UTIL)
        if named:
            if not Path(named).is_file() or util is None:
                raise RuntimeError(
                    f"{MODULE_VARIABLE}={named}: no such file, or no {_UTIL} on PATH beside it"
                )
            return cls(Path(named), Path(util))
        for root in (Path("/"), _cache()):
            for place in _PLACES:
                for module in sorted(root.glob(place)):
                    beside = root / "usr" / "bin" / _UTIL
                    program = beside if beside.is_file() else Path(util) if util else None
                    if program is not None:
                        return cls(module, program)
        return None

    @classmethod
    def _install(cls) -> SoftHsm:
        """With apt: as a package where we may, unpacked into a directory of our own where we may not."""
        problem = "apt-get is not here"
        if shutil.which("apt-get") is not None:
            cache = _cache()
            cache.mkdir(parents=True, exist_ok=True)
            with (cache / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if (found := cls._present()) is not None:
                    return found
                problem = _apt_install() if os.geteuid() == 0 else ""
                if problem or os.geteuid() != 0:
                    problem = _apt_unpack(cache) or problem
                if (found := cls._present()) is not None:
                    return found
        raise RuntimeError(
            "SoftHSM 2 is needed for the tests of keys in an HSM and could not be installed "
            f"({problem.strip() or 'it is not where it was expected'}). Install it, for example: "
            "apt-get install softhsm2 | dnf install softhsm | brew install softhsm, or set "
            f"{MODULE_VARIABLE} to its libsofthsm2.so and put {_UTIL} on PATH."
        )


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "token-service-tests" / "softhsm"


def _apt_install() -> str:
    """What went wrong, or nothing."""
    install = ["apt-get", "install", "-y", "--no-install-recommends", "softhsm2"]
    return _run(install) and (_run(["apt-get", "update"]) or _run(install))


def _apt_unpack(cache: Path) -> str:
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        download = ["download", *_PACKAGES]
        problem = _run(["apt-get", *download], Path(scratch))
        if problem:  # the machine knows of no packages, as in a fresh container: look for ourselves
            state = Path(scratch) / "apt"
            (state / "lists" / "partial").mkdir(parents=True)
            own = ["apt-get", "-o", f"Dir::State::Lists={state / 'lists'}", "-o", f"Dir::Cache={state}"]
            problem = _run([*own, "update"]) or _run([*own, *download], Path(scratch))
        for archive in Path(scratch).glob("*.deb"):
            problem = problem or _run(["dpkg", "-x", str(archive), str(cache)])
    return problem


def _run(command: Sequence[str], directory: Path | None = None) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else f"{' '.join(command)}: {done.stderr.strip()[-500:]}"


class SoftHsmToken:
    """A token in a directory of its own.

    The module reads `SOFTHSM2_CONF` when it is initialised: set `environment` before it is opened, here or in
    another process.
    """

    def __init__(self, label: str = "token-service", *, softhsm: SoftHsm | None = None) -> None:
        self.softhsm = softhsm or SoftHsm.find()
        self.label = label
        self.pin = secrets.token_hex(8)
        self._directory = Path(tempfile.mkdtemp(prefix="token-service-softhsm-"))
        self.tokens = self._directory / "tokens"
        """Where everything the module stores is."""
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
        """What a process that uses the token needs in its environment."""
        return {"SOFTHSM2_CONF": str(self.configuration)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take_away(self) -> None:
        """Make the module lose its tokens, as if the hardware were unplugged."""
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
