"""The hardware disappears while it is in use, and returns."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.hsm.public_keys import load_public_key
from tests.support.deadline import eventually
from tests.support.softhsm import SoftHsmToken
from token_service.errors import SigningUnavailableError
from token_service.signers.hsm.module import Pkcs11Module
from token_service.signers.hsm.pkcs11 import Pkcs11Keys
from token_service.tokens.algorithms import Algorithm, Verify, verifier_for
from token_service.tokens.secret import Secret

CLOSE_ALL_SESSIONS, LOGOUT, FINALIZE = 14, 19, 1


@dataclass(frozen=True)
class Signing:
    """Signs with a key of the module, and verifies with its public key."""

    sign: Callable[[bytes], Coroutine[Any, Any, bytes]]
    verify: Verify


@pytest.fixture
async def signer(keys: Pkcs11Keys) -> Signing:
    new = await keys.generate(Algorithm.ES256)
    signer = keys.open_signer(new.key_id, Algorithm.ES256)
    return Signing(signer.sign, verifier_for(load_public_key(new.public_key)))


async def good(signer: Signing) -> bool:
    try:
        return signer.verify(await signer.sign(b"x"), b"x")
    except SigningUnavailableError:
        return False


async def test_signing_is_unavailable_while_away_and_works_again_once_back(
    token: SoftHsmToken, keys: Pkcs11Keys, signer: Signing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for turn in (1, 2):
        assert await good(signer)
        token.take_away()
        for _ in range(6):
            with pytest.raises(
                SigningUnavailableError, match="the HSM does not work at the moment"
            ) as caught:
                await signer.sign(b"x")
            assert caught.value.retry_after == 0.05
            with pytest.raises(SigningUnavailableError):
                await keys.generate(Algorithm.ES256)
        token.bring_back()
        await eventually(lambda: good(signer))
        await keys.generate(Algorithm.ES256)
        said = [record.message for record in caplog.records]
        assert [("away" in text, "back" in text) for text in said] == [(True, False), (False, True)] * turn
        assert token.pin not in caplog.text


async def test_an_absence_between_two_calls_goes_unnoticed(token: SoftHsmToken, signer: Signing) -> None:
    assert await good(signer)
    token.take_away()
    token.bring_back()
    await eventually(lambda: good(signer))


async def test_many_callers_get_signatures_or_typed_errors_during_absences(
    token: SoftHsmToken, signer: Signing
) -> None:
    stop = False
    signed = refused = 0

    async def caller() -> None:
        nonlocal signed, refused
        while not stop:
            try:
                assert signer.verify(await signer.sign(b"x"), b"x")
                signed += 1
            except SigningUnavailableError:
                refused += 1
                await asyncio.sleep(0.001)

    async def more_signed() -> None:
        before = signed
        await eventually(lambda: signed > before + 50)

    async def more_refused() -> None:
        before = refused
        await eventually(lambda: refused > before + 50)

    callers = asyncio.gather(*(caller() for _ in range(32)))
    for _ in range(3):
        await more_signed()
        token.take_away()
        await more_refused()
        token.bring_back()
    await more_signed()
    stop = True
    await callers


def call(module: Pkcs11Module, function: int, *arguments: object) -> None:
    assert module._call(function, *arguments) == 0


@pytest.mark.parametrize("what", ["sessions closed", "logged out", "finalized"])
async def test_lost_sessions_and_logins_are_restored_without_an_error(
    token: SoftHsmToken, keys: Pkcs11Keys, signer: Signing, what: str
) -> None:
    await asyncio.gather(*(signer.sign(b"x") for _ in range(16)))
    module = keys._sessions._module
    assert module is not None
    slot = module.token(token.label).slot.slot_id
    if what == "sessions closed":
        call(module, CLOSE_ALL_SESSIONS, ctypes.c_ulong(slot))
    elif what == "logged out":
        session: Any = module.token(token.label).open()
        call(module, LOGOUT, ctypes.c_ulong(session.handle))
    else:
        call(module, FINALIZE, None)
    signatures = await asyncio.gather(*(signer.sign(b"x") for _ in range(32)))
    assert all(signer.verify(signature, b"x") for signature in signatures)


async def test_a_pin_refused_after_the_start_is_tried_once(
    keys: Pkcs11Keys, signer: Signing, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []
    log_in = Pkcs11Module.log_in

    def counted(*args: Any) -> Any:
        tries.append(1)
        return log_in(*args)

    monkeypatch.setattr(Pkcs11Module, "log_in", counted)
    keys._sessions._pin = Secret(b"changed-meanwhile")
    module = keys._sessions._module
    assert module is not None
    module.restart(module.generation, interval=0, timeout=5)
    for outcome in await asyncio.gather(*(signer.sign(b"x") for _ in range(16)), return_exceptions=True):
        assert isinstance(outcome, SigningUnavailableError)
        assert "refuses the PIN" in outcome.message
        assert "changed-meanwhile" not in repr(outcome)
    assert tries == [1]


async def test_an_absent_token_fails_the_start_and_works_later(token: SoftHsmToken) -> None:
    keys = Pkcs11Keys(token.module, token.label, Secret(token.pin.encode()), threads=2)
    token.take_away()
    with pytest.raises(SigningUnavailableError, match="does not work"):
        await keys.__aenter__()
    token.bring_back()
    async with keys:
        await keys.generate(Algorithm.ES256)


@pytest.fixture
async def impatient(token: SoftHsmToken) -> AsyncIterator[Pkcs11Keys]:
    pin = Secret(token.pin.encode())
    async with Pkcs11Keys(
        token.module, token.label, pin, threads=2, timeout=30, restart_interval=0.01
    ) as keys:
        keys._sessions._timeout = 0.3  # set after the start, which may take longer
        yield keys


async def test_a_hanging_module_delays_no_caller_beyond_the_timeout(
    impatient: Pkcs11Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = await impatient.generate(Algorithm.ES256)
    signer = impatient.open_signer(new.key_id, Algorithm.ES256)
    verify = verifier_for(load_public_key(new.public_key))
    returns = threading.Event()
    begun = []
    original = signer._sign

    def hang(opened, data):
        begun.append(data)
        returns.wait(60)
        return original(opened, data)

    monkeypatch.setattr(signer, "_sign", hang)
    outcomes = await asyncio.gather(*(signer.sign(b"x") for _ in range(8)), return_exceptions=True)
    assert {str(outcome) for outcome in outcomes} == {"the HSM did not answer within 0.3 s"}
    returns.set()

    async def works() -> bool:
        try:
            return verify(await signer.sign(b"y"), b"y")
        except SigningUnavailableError:
            return False

    await eventually(works)
    # Abandoned calls were not begun: each of the two threads hung in one call at most.
    assert 1 <= begun.count(b"x") <= 2


async def test_a_cancelled_caller_does_not_affect_the_others(keys: Pkcs11Keys, signer: Signing) -> None:
    tasks = [asyncio.create_task(signer.sign(b"x")) for _ in range(32)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    outcomes: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[::2])
    assert all(signer.verify(outcome, b"x") for outcome in outcomes[1::2])
    assert await good(signer)
