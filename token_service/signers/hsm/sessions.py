"""Threads that work with a PKCS#11 token, and their recovery when the token disappears and returns.

Each thread has its own session, because a session must not be used by several threads. A call into the module may block
for any time, so it can't run in an event loop. The threads are daemons: a thread that hangs in the module does not keep
the process from ending.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from token_service.errors import ConfigurationError, SigningUnavailableError
from token_service.signers.hsm.module import (
    ModuleError,
    NoSuchTokenError,
    PinRefusedError,
    Pkcs11Module,
    require_python_pkcs11,
)
from token_service.tokens.secret import Secret

if TYPE_CHECKING:
    from pkcs11 import PKCS11Error, Session

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_WAITING: Final = 2000
"""Jobs that may wait for a thread. Further jobs would time out anyway."""


class UnfitError(Exception):
    """The token can't do this operation, now or later."""


@dataclass(slots=True)
class TokenSession:
    """A session that is logged in, and the private keys that it has found."""

    session: Session
    generation: int
    private_keys: dict[bytes, Any] = field(default_factory=dict)
    """Private keys by CKA_ID. `Any`, because the type stubs of python-pkcs11 lack the operations of keys."""


@dataclass(slots=True)
class _Thread:
    opened: TokenSession | None = None


_Jobs: TypeAlias = "SimpleQueue[Callable[[_Thread], None] | None]"
"""A queue of jobs. None ends the thread that takes it."""


class Pkcs11Sessions:
    """A pool of threads that run work in sessions with one token."""

    def __init__(
        self,
        module_path: str,
        token_label: str,
        pin: Secret,
        *,
        threads: int,
        timeout: float,
        restart_interval: float,
    ) -> None:
        """Create the pool, without I/O.

        A caller waits `timeout` seconds at most. Attempts to restart the module are `restart_interval` seconds apart.
        """
        self._path = module_path
        self._label = token_label
        self._pin = pin
        self._count = threads
        self._timeout = timeout
        self._restart_interval = restart_interval
        self._module: Pkcs11Module | None = None
        self._jobs: _Jobs = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._login = threading.Lock()
        self._pin_refused = ""
        self._away = False

    async def open(self) -> None:
        """Start the threads and log in.

        Raises `ConfigurationError` for a problem that an operator must solve (no python-pkcs11, no such module or token,
        a refused PIN), and `SigningUnavailableError` for a module that does not work now.
        """
        self._jobs = SimpleQueue()  # threads that still hang since an earlier `open` keep the old queue
        self._threads = [
            threading.Thread(target=self._serve, args=(self._jobs,), name=f"pkcs11-{number}", daemon=True)
            for number in range(self._count)
        ]
        for thread in self._threads:
            thread.start()
        try:
            await self._submit(self._begin, self._timeout)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the threads and release the module.

        Running work may finish until the timeout; threads that still run then are abandoned.
        """
        threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        done: Future[None] = Future()

        def finish() -> None:
            try:
                deadline = time.monotonic() + self._timeout
                for thread in threads:
                    thread.join(max(0.0, deadline - time.monotonic()))
                module, self._module = self._module, None
                if module is not None:
                    module.release(timeout=max(0.0, deadline - time.monotonic()))
            finally:
                done.set_result(None)

        threading.Thread(target=finish, name="pkcs11-close", daemon=True).start()
        await asyncio.shield(asyncio.wrap_future(done))

    async def run(self, work: Callable[[TokenSession], T], *, timeout: float | None = None) -> T:
        """Call `work` in one of the threads, and return its result.

        After a failure `work` is repeated in a new session, and finally after a restart of the module. Raises
        `SigningUnavailableError` if all attempts fail or the timeout is over, and `UnfitError` if the token can't do
        this operation.
        """
        return await self._submit(
            lambda thread: self._persist(thread, work),
            self._timeout if timeout is None else timeout,
        )

    async def _submit(self, work: Callable[[_Thread], T], timeout: float) -> T:
        if not self._threads:
            raise SigningUnavailableError("the HSM is not open")
        if self._jobs.qsize() >= _MAX_WAITING:
            raise SigningUnavailableError(
                "too many signatures wait for the HSM", retry_after=self._restart_interval
            )
        future: Future[T] = Future()

        def job(thread: _Thread) -> None:
            if not future.set_running_or_notify_cancel():
                return  # the caller no longer waits
            try:
                result = work(thread)
            except BaseException as error:  # noqa: BLE001 - raised in the waiting caller, as executors do
                future.set_exception(error)
            else:
                future.set_result(result)

        self._jobs.put(job)
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            self._say(away=True, why="no answer")
            raise SigningUnavailableError(
                f"the HSM did not answer within {timeout:g} s", retry_after=self._restart_interval
            ) from None

    def _serve(self, jobs: _Jobs) -> None:
        thread = _Thread()
        while (job := jobs.get()) is not None:
            job(thread)
            del job  # it holds the result
        self._leave(thread)

    def _begin(self, thread: _Thread) -> None:
        """Make the first contact. An error here comes more likely from the configuration than from the hardware."""
        require_python_pkcs11()
        from pkcs11 import PKCS11Error

        try:
            self._module = Pkcs11Module.acquire(self._path)
            with self._module.calls() as generation:
                thread.opened = self._open_session(self._module, generation)
        except NoSuchTokenError as error:
            raise ConfigurationError(f"the PKCS#11 module {self._path}: {error}") from None
        except PinRefusedError as error:
            raise ConfigurationError(f"the PKCS#11 token {self._label!r} refuses the PIN: {error}") from None
        except (ModuleError, PKCS11Error) as error:
            raise SigningUnavailableError(
                f"the PKCS#11 module {self._path} does not work: {_name(error)}",
                retry_after=self._restart_interval,
            ) from None

    def _persist(self, thread: _Thread, work: Callable[[TokenSession], T]) -> T:
        import pkcs11

        module = self._module
        if module is None:
            raise SigningUnavailableError("the HSM is closed")
        failure: ModuleError | PKCS11Error | None = None
        for attempt in (1, 2, 3):
            generation = module.generation
            try:
                with module.calls() as generation:
                    result = work(self._session(module, thread, generation))
            except _never() as error:
                raise UnfitError(_name(error)) from None
            except PinRefusedError as error:
                raise SigningUnavailableError(
                    f"the HSM refuses the PIN, and the PIN is not tried again: {error}"
                ) from None
            except ConfigurationError as error:  # the module has changed since `open`
                raise SigningUnavailableError(error.message) from None
            except (ModuleError, pkcs11.PKCS11Error) as error:
                failure = error
            else:
                self._say(away=False)
                return result
            self._leave(thread)
            if attempt == 1:
                continue  # a new session may be enough
            if attempt == 2:
                # A restart waits for long calls, such as the generation of a key, and all other callers wait for the
                # restart. A missing key alone does not justify a long wait of all callers.
                patience = min(0.5, self._timeout) if isinstance(failure, pkcs11.NoSuchKey) else self._timeout
                try:
                    module.restart(generation, interval=self._restart_interval, timeout=patience)
                except ModuleError as error:
                    logger.debug("the HSM still does not work: %s", error)
                    break
        assert failure is not None
        raise self._unavailable(failure)

    def _session(self, module: Pkcs11Module, thread: _Thread, generation: int) -> TokenSession:
        if thread.opened is None or thread.opened.generation != generation:
            thread.opened = None
            thread.opened = self._open_session(module, generation)
        return thread.opened

    def _open_session(self, module: Pkcs11Module, generation: int) -> TokenSession:
        with self._login:  # one attempt at once, because the token counts wrong PINs
            if self._pin_refused:
                raise PinRefusedError(self._pin_refused)
            if not module.is_logged_in(self._label):
                try:
                    module.log_in(self._label, self._pin)
                except PinRefusedError as error:
                    self._pin_refused = str(error)
                    raise
        return TokenSession(module.token(self._label).open(), generation)

    def _leave(self, thread: _Thread) -> None:
        opened, thread.opened = thread.opened, None
        module = self._module
        if opened is None or module is None:
            return
        from pkcs11 import PKCS11Error

        try:
            with module.calls() as generation:
                if opened.generation == generation:
                    opened.session.close()
        except (ModuleError, PKCS11Error):
            pass  # the session no longer exists

    def _unavailable(self, failure: ModuleError | PKCS11Error) -> SigningUnavailableError:
        from pkcs11 import NoSuchKey

        if isinstance(failure, NoSuchKey):
            return SigningUnavailableError(str(failure), retry_after=self._restart_interval)
        # Callers see only that the HSM does not work. The log names the failure.
        self._say(away=True, why=_name(failure))
        return SigningUnavailableError(
            "the HSM does not work at the moment", retry_after=self._restart_interval
        )

    def _say(self, *, away: bool, why: str = "") -> None:
        if away and not self._away:
            logger.warning("the HSM is away: token %r: %s", self._label, why)
        elif self._away and not away:
            logger.warning("the HSM is back: token %r", self._label)
        self._away = away


def _never() -> tuple[type[PKCS11Error], ...]:
    """Return the errors by which a token refuses an operation that it can never do."""
    import pkcs11

    return (
        pkcs11.AttributeTypeInvalid,
        pkcs11.AttributeValueInvalid,
        pkcs11.DomainParamsInvalid,
        pkcs11.FunctionNotSupported,
        pkcs11.KeySizeRange,
        pkcs11.KeyTypeInconsistent,
        pkcs11.MechanismInvalid,
        pkcs11.MechanismParamInvalid,
        pkcs11.TemplateInconsistent,
    )


def _name(error: Exception) -> str:
    """Describe a failure. Most exceptions of python-pkcs11 have no text, only a name."""
    text = str(error)
    if isinstance(error, ModuleError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
