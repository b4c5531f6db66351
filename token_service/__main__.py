"""The program: `token-service`, and `python -m token_service`.

Imports little before `main` runs: what it does must come before anything that takes time.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line of this process."""
    if os.getpid() == 1:
        # The kernel ignores SIGTERM for the first process of a container that has no handler, for good.
        signal.signal(signal.SIGTERM, _end)
    try:
        from token_service.cli import cli

        cli.main(prog_name="token-service")
    except KeyboardInterrupt:  # before the command line is there to say so itself
        sys.exit(128 + signal.SIGINT)


def _end(number: int, _frame: object) -> None:
    """Do what the default of this signal does to any other process."""
    os._exit(128 + number)


if __name__ == "__main__":
    main()
