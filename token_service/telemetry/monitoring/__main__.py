"""Writes the dashboards and the rules: `scripts/gen-dashboards`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from token_service.telemetry.monitoring.files import outdated, write
from token_service.telemetry.monitoring.site import Site


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    default = Site()
    parser = argparse.ArgumentParser(prog="scripts/gen-dashboards", description=__doc__, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not current")
    parser.add_argument("--out", type=Path, default=Path("deploy"), help="the directory [deploy]")
    parser.add_argument("--job", default=default.job, help="the name of the scrape job [%(default)s]")
    parser.add_argument(
        "--target", dest="targets", action="append", default=[], metavar="HOST:PORT", help="a page of metrics"
    )
    parser.add_argument(
        "--docs", default=default.docs, help="where runbooks/ is, such as a URL [%(default)s]"
    )
    parser.add_argument(
        "--availability",
        type=float,
        default=default.availability,
        help="the share of requests that are to succeed [%(default)s]",
    )
    parser.add_argument(
        "--speed",
        type=float,
        default=default.speed,
        help="the share of requests that are to be quick [%(default)s]",
    )
    for name, text in (
        ("freshness-bound", "the age of an unconfirmed revocation that is too old"),
        ("replica-max-age", "REPLICA_MAX_AGE of the nodes"),
        ("janitor-interval", "JANITOR_INTERVAL of the nodes"),
    ):
        value = getattr(default, name.replace("-", "_"))
        parser.add_argument(
            f"--{name}", type=float, default=value, metavar="SECONDS", help=f"{text} [%(default)g]"
        )
    parser.add_argument(
        "--pace",
        type=float,
        default=default.pace,
        help="the factor by which all times are shorter, for a trial [%(default)g]",
    )
    options = vars(parser.parse_args(arguments))
    check, directory = options.pop("check"), options.pop("out")
    site = Site(**{**options, "targets": tuple(options["targets"])})
    if not check:
        write(directory, site)
        return 0
    names = outdated(directory, site)
    for name in names:
        print(f"{directory / name} is not current: run scripts/gen-dashboards", file=sys.stderr)  # noqa: T201 - a command
    return int(bool(names))


if __name__ == "__main__":
    sys.exit(main())
