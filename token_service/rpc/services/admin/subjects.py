"""ExportSubject and EraseSubject."""

from __future__ import annotations

from collections.abc import Sequence

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.administration.subjects.erasure import EraseCommand, SubjectErasure
from token_service.core.administration.subjects.export import SCHEMA_VERSION, SubjectExport
from token_service.rpc.convert.values import struct_of_json
from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import admin_service_pb2 as pb


class SubjectsPart:
    """The requests of a person: export and erasure."""

    def __init__(self, export: SubjectExport, erasure: SubjectErasure, clock: Clock) -> None:
        self._export = export
        self._erasure = erasure
        self._clock = clock

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `AdminPart`)."""
        return (
            UnaryMethod("ExportSubject", pb.ExportSubjectRequest, self.ExportSubject),
            UnaryMethod("EraseSubject", pb.EraseSubjectRequest, self.EraseSubject),
        )

    async def ExportSubject(
        self, request: pb.ExportSubjectRequest, caller: Caller
    ) -> pb.ExportSubjectResponse:
        """Return a page of what the service holds about a subject."""
        page = await self._export.page(
            caller, request.subject, request.page_token, self._clock.now(), request.comment
        )
        return pb.ExportSubjectResponse(
            records=[
                pb.SubjectRecord(section=each.section, record=struct_of_json(each.members))
                for each in page.records
            ],
            next_page_token=page.next_page_token,
            schema_version=SCHEMA_VERSION,
        )

    async def EraseSubject(self, request: pb.EraseSubjectRequest, caller: Caller) -> pb.EraseSubjectResponse:
        """Erase the next part of what the service holds about a subject."""
        command = EraseCommand(
            subject=request.subject,
            comment=request.comment,
            dry_run=request.dry_run,
            page_token=request.page_token,
        )
        erased = await self._erasure.erase(caller, command, self._clock.now())
        return pb.EraseSubjectResponse(
            sessions=erased.data.sessions,
            events=erased.data.events,
            device_requests=erased.data.device_requests,
            pending_logouts=erased.data.logouts,
            next_page_token=erased.next_page_token,
        )
