"""One token, several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Self

from tests.integration.hsm.public_keys import load_public_key
from tests.support.lines import read_answer
from tests.support.softhsm import SoftHsmToken
from token_service.tokens.algorithms import verifier_for

# Reads {module, label, pin}, then one command per line; answers each with a line.
PROGRAM = """
import asyncio, json, sys
from token_service.signers.hsm.pkcs11 import Pkcs11Keys
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.secret import Secret

async def serve(settings):
    pin = Secret(settings["pin"].encode())
    async with Pkcs11Keys(settings["module"], settings["label"], pin, threads=2) as keys:
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            what, *rest = json.loads(line)
            if what == "generate":
                new = await keys.generate(Algorithm(rest[0]))
                answer = [new.key_id, new.public_key.hex()]
            elif what == "sign":
                signer = keys.open_signer(rest[0], Algorithm(rest[1]))
                signatures = await asyncio.gather(*(signer.sign(b"%d" % n) for n in range(rest[2])))
                answer = [signature.hex() for signature in signatures]
            elif what == "leave":
                if rest[0] == "without closing":
                    return sys.exit(0)
                return
            elif what == "hang":
                keys._sessions._jobs.put(lambda thread: __import__("time").sleep(600))
                answer = None
            print(json.dumps(answer), flush=True)

settings = json.loads(sys.stdin.readline())
asyncio.run(serve(settings))
"""


class Signing:
    """A process that signs."""

    def __init__(self, token: SoftHsmToken) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **token.environment},
        )
        settings = {"module": token.module, "label": token.label, "pin": token.pin}
        self.tell(settings)
        assert self.hear() == "ready"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)

    def tell(self, message: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = read_answer(self.process.stdout, "a process that signs")
        if not line:
            raise AssertionError(self.process.communicate(timeout=60)[1][-3000:])
        return json.loads(line)

    def ask(self, *message: object) -> Any:
        self.tell(message)
        return self.hear()

    def leave(self, how: str) -> int:
        self.tell(["leave", how])
        _, errors = self.process.communicate(timeout=60)
        assert errors == ""
        return self.process.returncode


def are_good(public_key: str, signatures: Sequence[str]) -> bool:
    verify = verifier_for(load_public_key(bytes.fromhex(public_key)))
    return all(verify(bytes.fromhex(signature), b"%d" % n) for n, signature in enumerate(signatures))


def test_a_key_made_by_one_process_signs_in_another(token: SoftHsmToken) -> None:
    with (
        Signing(token) as one,
        Signing(token) as two,
    ):  # the second process opened the token before the key existed
        key_id = public_key = ""
        for algorithm in ("RS256", "ES256", "EdDSA"):
            key_id, public_key = one.ask("generate", algorithm)
            for process in (one, two):
                process.tell(["sign", key_id, algorithm, 200])
            assert are_good(public_key, one.hear())
            assert are_good(public_key, two.hear())
        two.process.send_signal(signal.SIGKILL)
        assert are_good(public_key, one.ask("sign", key_id, "EdDSA", 20))
        assert one.leave("in good order") == 0


def test_a_process_exits_without_closing_and_despite_a_hanging_call(token: SoftHsmToken) -> None:
    with Signing(token) as one, Signing(token) as two:
        assert one.ask("generate", "ES256")
        assert one.leave("without closing") == 0
        two.ask("hang")
        assert two.leave("in good order") == 0
