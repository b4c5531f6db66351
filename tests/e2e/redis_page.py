"""The configuration of Redis in docs/production.md."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "production.md"


def shown(name: str) -> str:
    """Return a block of the page."""
    match = re.search(rf"<!-- redis:{name} -->\n```\w+\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    assert match is not None, f"the page has no block {name}"
    return match[1]


def rules(name: str) -> list[str]:
    """Return the words of an ACL command after `ACL SETUSER <user>`."""
    return shown(name).split()[3:]


def environment(name: str, **replaced: str) -> dict[str, str]:
    """Return the settings of a node. `replaced`: the value by the end of the name, in lower case; the others stay."""
    settings = dict(line.split("=", 1) for line in shown(name).splitlines())
    for end, value in replaced.items():
        (variable,) = (each for each in settings if each.endswith(f"REDIS_{end.upper()}"))
        settings[variable] = value
    return settings


def url(name: str, hosts: str, *, tls: bool = True) -> str:
    """Return the URL of the page with other hosts, and without TLS if the servers have none."""
    (text,) = (value for key, value in environment(name).items() if key.endswith("REDIS_URL"))
    parts = urlsplit(text)
    user, at, _ = parts.netloc.rpartition("@")
    scheme = parts.scheme if tls else parts.scheme.replace("rediss", "redis")
    return urlunsplit(parts._replace(scheme=scheme, netloc=f"{user}{at}{hosts}"))
