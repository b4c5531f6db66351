"""The log line about the differences between two policy files."""

from __future__ import annotations

from token_service.app.policy_changes import policy_changes
from token_service.config.policy_file import PolicyFile

BEFORE = """
[automatic_revocation.classifications.restricted]
max_session_age = "8h"
"""
AFTER = """
[automatic_revocation]
dry_run = true
[automatic_revocation.classifications.restricted]
max_session_age = "9h"
[automatic_revocation.thresholds.stolen]
actions = ["refresh_token.reused"]
count = 3
window = "10m"
per = "subject"
revoke = "subject"
"""


def test_changed_rules_of_automatic_revocation_are_named() -> None:
    file = PolicyFile(None, {})
    before, after = file.parse(BEFORE.encode()), file.parse(AFTER.encode())
    assert policy_changes(before, after, before.book, after.book) == (
        "automatic_revocation.dry_run False -> True, "
        "automatic_revocation.classifications.restricted changed, "
        "automatic_revocation.thresholds.stolen added"
    )
    assert policy_changes(after, after, after.book, after.book) == ""
