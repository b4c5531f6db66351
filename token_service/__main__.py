"""The program: `token-service`, and `python -m token_service`.

It imports little before `main` runs: the signal handler must be installed before any slow import.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line.

    An installation without extras has the command but not the packages it imports. The command then prints one
    line with the package to install, and exits with 1.
    """
    if os.getpid() == 1:
        # The kernel ignores SIGTERM for the first process of a container if the process has no handler.
        signal.signal(signal.SIGTERM, _end)
    try:
        from token_service.cli import cli

        cli.main(prog_name="token-service")
    except KeyboardInterrupt:  # before the command line can handle it
        sys.exit(128 + signal.SIGINT)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing == "token_service" or missing in sys.stdlib_module_names:
            raise  # a defect, or a broken installation
        extra = "gateway" if sys.argv[1:2] == ["gateway"] else "server"
        sys.exit(
            f"token-service: the Python package {missing!r} is not installed. Without extras only the client"
            f" library is installed; for this command: pip install 'grpc-token-service[{extra}]'"
        )


def _end(number: int, _frame: object) -> None:
    """End the process, as the default action of the signal does for every other process."""
    os._exit(128 + number)


if __name__ == "__main__":
    main()
