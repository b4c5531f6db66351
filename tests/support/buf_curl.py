"""`buf curl` as a client that knows only the address and learns the rest by reflection."""

from __future__ import annotations

import base64
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from google.protobuf import json_format
from google.rpc import error_details_pb2

from tests.support import reaper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

Message = dict[str, Any]


class BufCurlError(Exception):
    """The call ended with an error status."""

    def __init__(self, code: str, message: str, details: list[Message]) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        """Name of the status in lower case, as in `invalid_argument`."""
        self.message = message
        self.details = details
        """Decoded `google.rpc` details in their JSON form, each with its full message name as `type`."""

    @property
    def reason(self) -> str | None:
        """`ErrorInfo.reason`, if the error carries one."""
        for detail in self.details:
            if detail["type"] == "google.rpc.ErrorInfo":
                return str(detail["reason"])
        return None

    @property
    def violations(self) -> dict[str, str]:
        """Field to description of `BadRequest`, empty without one."""
        return {
            violation["field"]: violation.get("description", "")
            for detail in self.details
            if detail["type"] == "google.rpc.BadRequest"
            for violation in detail["fieldViolations"]
        }


def find_buf() -> str:
    """Return the `buf` on PATH, else the one that the buf-bin wheel installs beside the interpreter."""
    found = shutil.which("buf") or shutil.which("buf", path=str(Path(sys.executable).parent))
    if found is None:
        raise RuntimeError("no buf: none on PATH and buf-bin is not installed")
    return found


def _command(address: str, method: str, request: Mapping[str, Any], headers: Mapping[str, str]) -> list[str]:
    arguments = [find_buf(), "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
    for name, value in headers.items():
        arguments += ["-H", f"{name}: {value}"]
    full_name = method if "/" in method else f"token_service.v1.TokenService/{method}"
    return [*arguments, "-d", json.dumps(request), f"http://{address}/{full_name}"]


def _documents(text: str) -> Iterator[Message]:
    decoder = json.JSONDecoder()
    position = 0
    while (position := len(text) - len(text[position:].lstrip())) < len(text):
        document, position = decoder.raw_decode(text, position)
        yield document


def _decoded(detail: Message) -> Message:
    # buf prints a detail as base64 without padding; only its type tells how to decode it.
    kind = getattr(error_details_pb2, detail["type"].removeprefix("google.rpc."))
    value = detail["value"]
    message = kind.FromString(base64.b64decode(value + "=" * (-len(value) % 4)))
    return {"type": detail["type"], **json_format.MessageToDict(message)}


def _error(stderr: str) -> BufCurlError:
    try:
        error = next(_documents(stderr[stderr.index("{") :]))
        details = [_decoded(detail) for detail in error.get("details", [])]
        return BufCurlError(error["code"], error.get("message", ""), details)
    except (ValueError, KeyError, StopIteration):
        return BufCurlError("unparsed", stderr.strip(), [])


def call(
    address: str,
    method: str,
    request: Mapping[str, Any] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> Message:
    """Make one unary call. `method` is a method of TokenService or `package.Service/Method`.

    Raise `BufCurlError`, or `subprocess.TimeoutExpired` after `timeout` seconds.
    """
    done = subprocess.run(
        _command(address, method, request or {}, headers or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=dict(os.environ),
    )
    if done.returncode != 0:
        raise _error(done.stderr)
    (message,) = _documents(done.stdout)
    return message


class Stream:
    """One server-streaming call, read while it runs.

    with Stream(address, "StreamRevocations") as stream:
        first = stream.next()
    """

    def __init__(
        self,
        address: str,
        method: str,
        request: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._command = _command(address, method, request or {}, headers or {})
        self._process: subprocess.Popen[str] | None = None
        self._messages: queue.Queue[Message | None] = queue.Queue()
        self._errors: list[str] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        reaper.watch(self._process.pid)
        self._threads = [
            threading.Thread(target=self._read_messages, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)
        reaper.forget(self._process.pid)
        for thread in self._threads:
            thread.join(30)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def next(self, timeout: float = 60) -> Message:
        """Return the next message.

        Raise `BufCurlError` when the stream ended with an error, `EOFError` when it ended with success, and
        `TimeoutError` if neither happens within `timeout` seconds.
        """
        try:
            message = self._messages.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no message within {timeout} s") from None
        if message is not None:
            return message
        self._messages.put(None)  # later calls find the end as well
        assert self._process is not None
        code = self._process.wait(60)
        self._threads[1].join(60)
        if code != 0:
            raise _error("".join(self._errors))
        raise EOFError

    def _read_messages(self) -> None:
        # buf prints each message as one JSON document; a line may hold part of one.
        assert self._process is not None
        assert self._process.stdout is not None
        decoder = json.JSONDecoder()
        text = ""
        for line in self._process.stdout:
            text = (text + line).lstrip()
            while text:
                try:
                    document, end = decoder.raw_decode(text)
                except ValueError:
                    break
                self._messages.put(document)
                text = text[end:].lstrip()
        self._messages.put(None)

    def _read_errors(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)
