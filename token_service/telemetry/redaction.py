"""Redaction of free text: messages and tracebacks, some of them from libraries.

The fields of log and audit lines do not pass through here: `fields` redacts them.
"""

from __future__ import annotations

import re
from typing import Final

_SECRETS: Final = re.compile(
    r"(?P<jwt>eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*)"
    r"|(?<![A-Za-z0-9])(?P<kind>[rs]t_|tscs_|tspat_)[A-Za-z0-9_-]{16,}"
    r"|(?<![A-Za-z0-9])(?P<webhook>whsec_)[A-Za-z0-9+/_-]{16,}=*"
    r"|(?P<url>://[^\s:/@]*:)[^\s@/]+@"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)


def redact(text: str) -> str:
    """Replace everything in `text` that looks like a secret: a JWT, an opaque token, a client secret, a password in a URL
    or a private key.
    """
    # Every secret contains one of these texts. The search for them takes a twentieth of the time of the pattern.
    if (
        "eyJ" in text
        or "rt_" in text
        or "st_" in text
        or "tscs_" in text
        or "tspat_" in text
        or "whsec_" in text
        or "://" in text
        or "-----" in text
    ):
        return _SECRETS.sub(_replacement, text)
    return text


def _replacement(match: re.Match[str]) -> str:
    if match["jwt"]:
        return "[JWT]"
    if match["kind"]:
        return f"{match['kind']}[{'SECRET' if match['kind'] == 'tscs_' else 'TOKEN'}]"
    if match["webhook"]:
        return "whsec_[SECRET]"
    return f"{match['url']}***@" if match["url"] else "[PRIVATE KEY]"
