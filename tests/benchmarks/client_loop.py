"""Validates tokens with the client library of its interpreter on command.

    client_loop.py TARGET ISSUER

Reads commands from standard input, `cached FILE` or `first FILE` (a token a line), and answers each with the microseconds of
processor time for one validation. Uses only names that every release has.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from token_service.client import ServiceIssuer, SyncTokenValidator, ValidatorConfig

_AUDIENCE = "https://api.example"
_REPEATS = 50_000


def main() -> None:
    """Answer commands until the input ends."""
    target, issuer = sys.argv[1:]
    config = ValidatorConfig(issuers=[ServiceIssuer(issuer=issuer, target=target)], audience=_AUDIENCE)
    for line in sys.stdin:
        command, path = line.split()
        tokens = Path(path).read_text().split()
        if command == "cached":
            tokens = [tokens[0]] * _REPEATS
        with SyncTokenValidator(config) as validator:
            assert validator.wait_ready(30)
            validate = validator.validate
            if command == "cached":
                validate(tokens[0])
            began = time.thread_time()
            for token in tokens:
                validate(token)
            spent = time.thread_time() - began
        print(spent / len(tokens) * 1e6, flush=True)


if __name__ == "__main__":
    main()
