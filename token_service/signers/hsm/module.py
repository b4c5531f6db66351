"""A PKCS#11 module (a shared library) in this process: initialized for threads, shared by all its users, and
restarted after a failure.

python-pkcs11 calls `C_Initialize(NULL)`, which promises the module that two threads never call it concurrently. But
python-pkcs11 releases the interpreter lock in every call, so two threads do call it concurrently, which corrupts the
memory of modules that rely on the promise. This code therefore initializes the module itself and lets it use the locks
of the operating system (PKCS #11 v2.40, section 5.4).
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from token_service.errors import ConfigurationError
from token_service.tokens.secret import Secret

if TYPE_CHECKING:
    from pkcs11 import Session, Token

_OK: Final = 0x000
_CANT_LOCK: Final = 0x00A
_ALREADY_INITIALIZED: Final = 0x191
_OS_LOCKING_OK: Final = 2

# Positions in CK_FUNCTION_LIST, which are the same in all versions.
_INITIALIZE: Final = 0
_FINALIZE: Final = 1
_FUNCTIONS: Final = 68

_FUNCTION: Final = ctypes.CFUNCTYPE(ctypes.c_ulong)
"""A function of the module. A call releases the interpreter lock; each argument carries its own type."""


class _FunctionList(ctypes.Structure):
    _fields_ = (("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * _FUNCTIONS))


class _InitializeArguments(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("create", "destroy", "lock", "unlock")),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


class ModuleError(Exception):
    """The module failed a call, or can't be called now. The text contains no PIN."""


class NoSuchTokenError(ModuleError):
    """The module answers, but has no token with this label."""


class PinRefusedError(ModuleError):
    """The token refused the PIN. Another attempt could lock the token."""


def require_python_pkcs11() -> None:
    """Raise `ConfigurationError` if python-pkcs11 is not installed.

    No module imports python-pkcs11 before a configured HSM needs it.
    """
    try:
        import pkcs11._pkcs11  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "keys in an HSM need python-pkcs11; install it: pip install 'grpc-token-service[server,hsm]'"
        ) from None


class Pkcs11Module:
    """One module in this process. Get it with `acquire`, and give it back with `release`.

    Make all calls into the module within `calls()`, so that `restart` can wait for their end.
    """

    _lock: Final = threading.Lock()
    _loaded: Final[dict[str, Pkcs11Module]] = {}

    def __init__(self, path: str) -> None:
        """Create an object that is not loaded yet. Only `acquire` calls this."""
        self.path: Final = path
        self.generation = 0
        """Grows with every restart of the module. Sessions of an older generation are void."""
        self._library: Any = None
        self._functions: ctypes.Array[ctypes.c_void_p]
        self._is_private = False
        self._logins: dict[str, tuple[int, Session | None]] = {}
        self._users = 0
        self._condition = threading.Condition()
        self._active = 0
        self._restarting = False
        self._initialized = False
        self._restart_after = 0.0

    @classmethod
    def acquire(cls, path: str) -> Pkcs11Module:
        """Return the module at `path`, loaded and initialized. Blocks.

        Raises `ConfigurationError` if the file is no PKCS#11 module, and `ModuleError` if the module can't be initialized
        now.
        """
        path = os.path.realpath(path)
        with cls._lock:
            module = cls._loaded.get(path)
            if module is None:
                module = cls(path)
                module._load()
                cls._loaded[path] = module
            elif not module._initialized:
                module._initialize(again=True)
            module._users += 1
            return module

    def release(self, timeout: float) -> None:
        """Give the module back. The last user finalizes it if all calls end within `timeout` seconds."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            with self._condition:
                quiet = self._condition.wait_for(lambda: not (self._active or self._restarting), timeout)
                if quiet and self._initialized:
                    self._finalize()
                    self.generation += 1
                    self._restart_after = 0.0

    @contextmanager
    def calls(self) -> Iterator[int]:
        """Surround calls into the module, and yield the generation that the calls belong to.

        Raises `ModuleError` while the module is not initialized.
        """
        with self._condition:
            # This wait ends, because a restart waits for other calls only until its own timeout.
            self._condition.wait_for(lambda: not self._restarting)
            if not self._initialized:
                raise ModuleError("the module is not initialized")
            self._active += 1
            generation = self.generation
        try:
            yield generation
        finally:
            with self._condition:
                self._active -= 1
                self._condition.notify_all()

    def restart(self, generation: int, *, interval: float, timeout: float) -> None:
        """Finalize and initialize the module, unless it was restarted since `generation`. Not within `calls()`.

        Raises `ModuleError` if the module can't be initialized now, if the last attempt was less than `interval` seconds
        ago, or if running calls don't end within `timeout` seconds.
        """
        with self._condition:
            self._condition.wait_for(lambda: not self._restarting)
            if self.generation != generation and self._initialized:
                return
            if time.monotonic() < self._restart_after:
                raise ModuleError("the module was restarted a moment ago")
            self._restarting = True
            idle = self._condition.wait_for(lambda: self._active == 0, timeout)
        try:
            if not idle:
                raise ModuleError("a call into the module does not return")
            if self._initialized:
                self._finalize()
            self._initialize(again=True)
        finally:
            with self._condition:
                if idle:
                    self.generation += 1
                self._restart_after = time.monotonic() + interval
                self._restarting = False
                self._condition.notify_all()

    def token(self, label: str) -> Token:
        """Return the token with this label.

        Raises `NoSuchTokenError`, `ConfigurationError` if several tokens have the label, or an error of python-pkcs11.
        """
        import pkcs11

        failure: pkcs11.PKCS11Error | None = None
        found: list[Token] = []
        labels: list[str] = []
        for slot in self._library.get_slots(token_present=True):
            try:
                token = slot.get_token()
            except pkcs11.PKCS11Error as error:  # perhaps only of a slot with another token
                failure = error
                continue
            labels.append(token.label)
            if token.label == label:
                found.append(token)
        if len(found) > 1:
            raise ConfigurationError(
                f"the PKCS#11 module {self.path} has {len(found)} tokens labeled {label!r}"
            )
        if found:
            return found[0]
        if failure is not None:
            raise failure
        present = ", ".join(repr(each) for each in labels if each) or "none"
        raise NoSuchTokenError(f"no token is labeled {label!r}; labels of the module's tokens: {present}")

    def is_logged_in(self, label: str) -> bool:
        """Tell whether this process has logged in to the token since the module was initialized. Within `calls()`."""
        return label in self._logins and self._logins[label][0] == self.generation

    def log_in(self, label: str, pin: Secret) -> None:
        """Log all sessions of this process in to the token. Within `calls()`.

        Keeps the session that logged in open: a token without open sessions logs out, and python-pkcs11 logs out when it
        closes that session. Raises `PinRefusedError` or an error of python-pkcs11.
        """
        import pkcs11

        refusals = (
            pkcs11.PinExpired,
            pkcs11.PinIncorrect,
            pkcs11.PinInvalid,
            pkcs11.PinLenRange,
            pkcs11.PinLocked,
            pkcs11.UserPinNotInitialized,
        )
        session: Session | None = None
        try:
            text = pin.reveal().decode()
        except UnicodeDecodeError:  # its text would show the PIN
            raise PinRefusedError("it is not UTF-8") from None
        try:
            session = self.token(label).open(user_pin=text)
        except refusals as error:
            raise PinRefusedError(type(error).__name__) from None
        except pkcs11.UserAlreadyLoggedIn:
            pass  # by another user of the module in this process
        self._logins[label] = (self.generation, session)

    def _load(self) -> None:
        from pkcs11 import PKCS11Error
        from pkcs11._pkcs11 import lib

        class Library(lib):
            """A library whose module may already be initialized."""

            def initialize(self) -> None:
                try:
                    super().initialize()
                except PKCS11Error as error:
                    if "already initialized" not in str(error):
                        raise

        try:
            library = ctypes.CDLL(self.path)
            functions = ctypes.POINTER(_FunctionList)()
            result = library.C_GetFunctionList(ctypes.byref(functions))
        except (OSError, AttributeError) as error:
            raise ConfigurationError(f"{self.path} can't be loaded as a PKCS#11 module: {error}") from None
        if result != _OK:
            raise ConfigurationError(
                f"{self.path} can't be loaded as a PKCS#11 module: C_GetFunctionList: {result:#x}"
            )
        self._functions = functions.contents.functions
        self._initialize()
        try:
            self._library = Library(self.path)
        except PKCS11Error as error:
            self._finalize()
            raise ModuleError(f"C_GetInfo: {type(error).__name__}") from None
        if self._library.initialized:
            # A module of p11-kit gives each caller its own instance, which is always safe for threads. The instance
            # initialized above is not needed.
            self._call(_FINALIZE, None)
            self._is_private = True

    def _initialize(self, *, again: bool = False) -> None:
        if self._is_private:
            self._initialize_private()
        else:
            self._initialize_shared(again=again)
        self._initialized = True

    def _initialize_private(self) -> None:
        from pkcs11 import PKCS11Error

        try:
            self._library.initialize()
        except PKCS11Error as error:
            raise ModuleError(f"C_Initialize: {type(error).__name__}") from None

    def _initialize_shared(self, *, again: bool) -> None:
        arguments = _InitializeArguments(flags=_OS_LOCKING_OK)
        result = self._call(_INITIALIZE, ctypes.byref(arguments))
        if result == _ALREADY_INITIALIZED and again:
            # The module could not finalize while its token was missing.
            self._call(_FINALIZE, None)
            result = self._call(_INITIALIZE, ctypes.byref(arguments))
            if result == _ALREADY_INITIALIZED:
                result = _OK  # this process initialized it, with locks
        if result == _ALREADY_INITIALIZED:
            raise ConfigurationError(
                f"other code in this process already uses the PKCS#11 module {self.path}"
            )
        if result == _CANT_LOCK:
            raise ConfigurationError(f"the PKCS#11 module {self.path} can't be used by several threads")
        if result != _OK:
            raise ModuleError(f"C_Initialize: {result:#x}")

    def _finalize(self) -> None:
        """Finalize the module. Ignores a failure, because the next user initializes the module again."""
        from pkcs11 import PKCS11Error

        self._initialized = False
        if self._is_private:
            with suppress(PKCS11Error):
                self._library.finalize()
        else:
            self._call(_FINALIZE, None)

    def _call(self, function: int, *arguments: object) -> int:
        return int(_FUNCTION(self._functions[function] or 0)(*arguments))

    def __repr__(self) -> str:
        return f"<Pkcs11Module {self.path}>"
