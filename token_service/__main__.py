"""The program: `token-service`, and `python -m token_service`.

Imports little before `main` runs: what it does must come before anything that takes time.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line of this process.

    An installation without extras has the command too, but not what it is made of: it then says in one line
    what to install and exits with 1.
    """
    if os.getpid() == 1:
        # The kernel ignores SIGTERM for the first process of a container that has no handler, for good.
        signal.signal(signal.SIGTERM, _end)
    try:
        from token_service.cli import cli

        cli.main(prog_name="token-service")
    except KeyboardInterrupt:  # before the command line is there to say so itself
        sys.exit(128 + signal.SIGINT)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing == "token_service" or missing in sys.stdlib_module_names:
            raise  # a defect, or a broken installation
        sys.exit(
            f"token-service: the Python package {missing!r} is not installed. Without extras there is only the client"
            " library; for this command: pip install 'grpc-token-service[server]'"
        )


def _end(number: int, _frame: object) -> None:
    """Do what the default of this signal does to any other process."""
    os._exit(128 + number)


if __name__ == "__main__":
    main()
