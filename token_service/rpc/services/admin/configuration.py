"""GetEffectiveConfiguration and ExplainAccess."""

from __future__ import annotations

from collections.abc import Sequence

from token_service.core.access.caller import Caller
from token_service.core.reports.access import AccessReports
from token_service.core.reports.configuration import ConfigurationReports
from token_service.rpc.convert.admin.configuration import (
    access_explanation,
    asked_call,
    effective_configuration,
)
from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import admin_service_pb2 as pb


class ConfigurationPart:
    """The settings of this node, and the rights of callers."""

    def __init__(self, configuration: ConfigurationReports, access: AccessReports) -> None:
        self._configuration = configuration
        self._access = access

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `AdminPart`)."""
        return (
            UnaryMethod(
                "GetEffectiveConfiguration",
                pb.GetEffectiveConfigurationRequest,
                self.GetEffectiveConfiguration,
            ),
            UnaryMethod("ExplainAccess", pb.ExplainAccessRequest, self.ExplainAccess),
        )

    async def GetEffectiveConfiguration(
        self, _request: pb.GetEffectiveConfigurationRequest, caller: Caller
    ) -> pb.GetEffectiveConfigurationResponse:
        """Return the settings in effect."""
        return effective_configuration(self._configuration.get(caller))

    async def ExplainAccess(
        self, request: pb.ExplainAccessRequest, caller: Caller
    ) -> pb.ExplainAccessResponse:
        """Explain whether a caller may make a call."""
        return access_explanation(self._access.explain(caller, tuple(request.names), asked_call(request)))
