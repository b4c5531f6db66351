"""docs/keys.md: a shell runs its commands in order beside a running service, and the output is what the page shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.integration.nodes import Node, key_encryption_key
from tests.integration.tour import ROOT, Tour
from tests.support.softhsm import SoftHsmToken

PAGE = ROOT / "docs" / "keys.md"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LIST = "token-service keys list\n"
# An operator types more slowly than the node makes a spare key; this shell does not.
_LIST_WITH_SPARE = (
    f"until token-service keys list --state prepared --format id | grep -q .; do sleep 60; done\n{_LIST}"
)
_VARYING = (
    (re.compile(r"[A-Za-z0-9_-]{43}(?=[\s\"]|$)"), "<key id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "<time>"),
    (re.compile(r"^\d+(?= keys were)"), "<some>"),
)


@dataclass(frozen=True)
class Block:
    language: str
    """`sh` is typed, `env` is given to every node, any other block is the output of the commands before it."""
    text: str


def blocks() -> Iterator[Block]:
    for match in _FENCE.finditer(PAGE.read_text()):
        yield Block(match[1], match[2])


def normalized(text: str) -> str:
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


class Service:
    """A node, and a shell with its settings. The shell's standard error, which has logs, is kept separately."""

    def __init__(self, node: Node, tour: Tour, softhsm: SoftHsmToken) -> None:
        self._node = node
        self._tour = tour
        self._module = softhsm.module
        self._export({**node._settings, "TOKEN_SERVICE_DATA_DIR": str(node.data_dir)})
        util = softhsm.softhsm.util.parent
        tour._type(f"export PATH={util}:$PATH; exec 2>errors")

    def type(self, code: str) -> str:
        # Shorten the waits for the time that validators may cache a key set.
        return self._tour._type(code.replace(_LIST, _LIST_WITH_SPARE).replace("sleep 60", "sleep 0.2"), 150)

    def errors(self) -> str:
        return self._tour._type("cat errors")

    def give(self, settings: str) -> None:
        """Restart the node with more settings."""
        given = {}
        for line in settings.strip().splitlines():
            name, _, value = line.partition("=")
            value = value.replace("/usr/lib/softhsm/libsofthsm2.so", self._module)
            given[name] = self._tour._type(f'printf %s "{value}"').strip()
        self._node._settings.update(given)
        self._node._known_secrets |= {value for name, value in given.items() if name.endswith("PIN")}
        self._export(given)
        self._node.restart()

    def _export(self, settings: dict[str, str]) -> None:
        for name, value in settings.items():
            self._tour._type(f"export {name}='{value}'")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_commands_of_the_page_print_what_it_shows() -> None:
    with SoftHsmToken("another") as softhsm:
        env = {
            "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key(),
            "TOKEN_SERVICE_AUDIT_KEY": key_encryption_key(),
            "TOKEN_SERVICE_KEY_ANNOUNCE_TIME": "300ms",
            "TOKEN_SERVICE_KEY_CHECK_INTERVAL": "100ms",
            **softhsm.environment,
        }
        with Node(env=env, ready_timeout=60) as node, Tour(node) as tour:
            service = Service(node, tour, softhsm)
            service.type("until token-service keys list --state prepared | grep RS256; do sleep 60; done")
            printed = ""
            for block in blocks():
                if block.language == "sh":
                    assert not printed, f"the page does not show this output:\n{printed}"
                    printed = service.type(block.text).strip()
                elif block.language == "env":
                    assert not printed, f"the page does not show this output:\n{printed}"
                    service.give(block.text)
                else:
                    if block.language == "json":
                        assert json.loads(printed)
                    assert normalized(printed) == normalized(block.text), service.errors()[-3000:]
                    printed = ""
            assert not printed
            assert "Traceback" not in service.errors()


def test_messages_on_the_page_are_in_the_code() -> None:
    code = "".join(path.read_text() for path in (ROOT / "token_service").rglob("*.py"))
    section = PAGE.read_text().split("## Error messages")[1]
    for row in section.splitlines():
        if row.startswith("| `"):
            for message in re.findall(r"`([^`]+)`", row.split("|")[1]):
                for part in message.replace("no signing keys", "no {name}").split("…"):
                    words = part.strip(" :")
                    assert words in code or words == "MAC keys", words


def test_links_settings_and_paths_on_the_page_exist() -> None:
    text = PAGE.read_text()
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line[3:].lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("## ")
    }
    for target in re.findall(r"\]\(#([\w-]+)\)", text):
        assert target in anchors
    settings = (ROOT / "token_service" / "config" / "settings.py").read_text()
    for name in re.findall(r"`(?:TOKEN_SERVICE_)?((?:KEY|PKCS11|SIGNING)_[A-Z0-9_]+)`", text):
        assert f"{name.lower()}:" in settings or name in {"KEY_NOT_ANNOUNCED", "SIGNING_UNAVAILABLE"}, name
    for path in re.findall(r"`((?:tests|docs|scripts)/[\w/.-]+)`", text):
        assert (ROOT / path).exists(), path
