"""The policies in force and where each value comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from starlette.responses import Response

from token_service.core.access.gate import UseCase, admit
from token_service.core.administration.policies import PolicyAdministration
from token_service.core.policies.overrides import PolicyValue
from token_service.web.console.page import Page
from token_service.web.console.pages.policy_changes import PolicyChanges
from token_service.web.console.visit import Visit

MAX_FORM: Final = 1024 * 1024
"""Bytes of the form with a policy file."""


class PoliciesPage:
    """Shows the policies, or that of a client, and checks policy files. `PolicyChanges` changes the overrides."""

    def __init__(self, policies: PolicyAdministration, changes: PolicyChanges) -> None:
        self._policies = policies
        self._changes = changes

    def page(self) -> Page:
        """Return the page."""
        return Page(
            path="policies",
            title="Policies",
            show=self.show,
            parts={"edit": self._changes.edit, "reset": self._changes.preview_reset, "file": self.file},
            actions={
                "preview": self._changes.preview,
                "set": self._changes.set,
                "reset": self._changes.reset,
                "check": self.check,
            },
            max_form=MAX_FORM,
        )

    async def show(self, visit: Visit) -> Response:
        """Return the values in force, with a client those of the client."""
        query = visit.query
        client_id = query.get("client_id")
        found = self._policies.get(visit.caller, client_id, tuple(query.get("audience").split()))
        return visit.page(
            "policies.html",
            policies=found,
            client_id=client_id,
            table=by_setting(found.values),
            classifications=sorted({classification_of(each) for each in found.values}),
            may_change=visit.may(UseCase.SET_POLICIES),
        )

    async def file(self, visit: Visit) -> Response:
        """Return the form for a policy file."""
        admit(visit.caller, UseCase.CHECK_POLICIES)  # the form is of use only with its result
        return visit.page("policy_file.html", text="", check=None)

    async def check(self, visit: Visit) -> Response:
        """Return what a policy file would change, or its problems. Changes nothing."""
        text = visit.form.get("file")
        check = await self._policies.check_file(visit.caller, text)
        return visit.page("policy_file.html", text=text, check=check)


def classification_of(value: PolicyValue) -> str:
    """Return the classification of a value."""
    return value.path.rpartition(".")[0]


def by_setting(values: Sequence[PolicyValue]) -> Mapping[str, Mapping[str, PolicyValue]]:
    """Return values by their setting, and then by their classification."""
    found: dict[str, dict[str, PolicyValue]] = {}
    for each in values:
        classification, _, name = each.path.rpartition(".")
        found.setdefault(name, {})[classification] = each
    return found
