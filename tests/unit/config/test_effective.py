"""Settings in effect, and their differences after the sources have changed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.config.loaded import KEY, env, load
from token_service.config import SETTINGS, load_settings
from token_service.config.effective import changed_settings, shown_value
from token_service.config.values import Address

ROOT = Path(__file__).resolve().parents[3]
OTHER_KEY = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="


def names(before, after):
    return [each.name for each in changed_settings(before, after)]


@pytest.mark.parametrize(
    ("values", "changes", "changed"),
    [
        ({}, {}, []),
        ({"LOG_LEVEL": "info"}, {"LOG_LEVEL": "debug"}, ["log_level"]),
        ({}, {"LOG_LEVEL": "info"}, []),
        ({"AUDIT_KEY": KEY}, {"AUDIT_KEY": KEY}, []),
        ({"AUDIT_KEY": KEY}, {"AUDIT_KEY": f"{OTHER_KEY},{KEY}"}, ["audit_key"]),
        ({"PAIRWISE_KEY": KEY}, {"PAIRWISE_KEY": OTHER_KEY}, ["pairwise_key"]),
        ({"PAIRWISE_KEY": KEY}, {"PAIRWISE_KEY": KEY}, []),
        (
            {"DATABASE_URL": "postgresql://u:one@h/d", "REDIS_URL": "redis://:one@h/0"},
            {"DATABASE_URL": "postgresql://u:two@h/d", "REDIS_URL": "redis://:two@h/0"},
            ["database_url", "redis_url"],
        ),
        ({}, {"HTTP_ADDRESS": "127.0.0.1:9999"}, ["http_address"]),
    ],
)
def test_only_settings_whose_values_differ_have_changed(values, changes, changed):
    assert names(load(**values), load(**{**values, **changes})) == changed


def test_a_port_that_was_taken_for_port_0_has_not_changed():
    settings = load(HTTP_ADDRESS="127.0.0.1:0")
    running = replace(settings, http_address=Address("127.0.0.1", 4567))
    assert names(running, settings) == []
    assert names(running, load(HTTP_ADDRESS="localhost:0")) == ["http_address"]


def test_no_shown_value_holds_a_secret():
    values = {
        "AUDIT_KEY": KEY,
        "PAIRWISE_KEY": KEY,
        "DATABASE_URL": "postgresql://u:hidden@h/d",
        "REDIS_URL": "redis+sentinel://user@h/tokens?sentinel_password=hidden",
        "REDIS_PASSWORD": "hidden",
    }
    settings = load(**values)
    shown = {each.name: shown_value(each, settings) for each in SETTINGS}
    assert shown["audit_key"] == shown["pairwise_key"] == "***"
    assert shown["pkcs11_pin"] == "-"
    assert not any("hidden" in value or KEY in value for value in shown.values())


def test_the_flags_are_kept_for_a_reload():
    settings = load_settings({"log_level": "error"}, env())
    assert load_settings(settings.flags, env()).log_level == "error"


def test_the_page_lists_the_settings_that_a_reload_changes():
    text = (ROOT / "docs/configuration.md").read_text()
    (listed,) = re.findall(r"<!-- reloadable:begin -->\n(.*?)<!-- reloadable:end -->", text, re.DOTALL)
    assert re.findall(r"`([A-Z_]+)`", listed) == [each.name.upper() for each in SETTINGS if each.reloadable]
