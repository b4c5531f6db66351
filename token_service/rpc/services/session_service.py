"""SessionService: converts requests, calls the core, converts results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.issuing.session_updates import SessionUpdates
from token_service.core.revocation.bulk import BulkRevocation
from token_service.core.sessions.browsing import Sessions
from token_service.rpc.convert.requests import (
    client_context,
    idle_timeout,
    session_filter,
    update_session_command,
)
from token_service.rpc.convert.responses import extended_session, session_message, updated_session
from token_service.rpc.convert.selections import (
    counted_sessions,
    revoke_sessions_command,
    revoked_sessions,
    session_selection,
)
from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import session_service_pb2 as pb


class SessionService:
    """The methods of SessionService."""

    name: Final = pb.DESCRIPTOR.services_by_name["SessionService"].full_name
    is_serving: Final = True

    def __init__(
        self, sessions: Sessions, updates: SessionUpdates, bulk_revocation: BulkRevocation, clock: Clock
    ) -> None:
        self._sessions = sessions
        self._updates = updates
        self._bulk_revocation = bulk_revocation
        self._clock = clock

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `Service`)."""
        return (
            UnaryMethod("GetSession", pb.GetSessionRequest, self.GetSession),
            UnaryMethod("ListSessions", pb.ListSessionsRequest, self.ListSessions),
            UnaryMethod("ExtendSession", pb.ExtendSessionRequest, self.ExtendSession),
            UnaryMethod("UpdateSession", pb.UpdateSessionRequest, self.UpdateSession),
            UnaryMethod("CountSessions", pb.CountSessionsRequest, self.CountSessions),
            UnaryMethod("RevokeSessions", pb.RevokeSessionsRequest, self.RevokeSessions),
        )

    async def GetSession(self, request: pb.GetSessionRequest, caller: Caller) -> pb.GetSessionResponse:
        """Return one session."""
        details = await self._sessions.get(caller, request.session_id)
        return pb.GetSessionResponse(session=session_message(details, self._clock.now()))

    async def ListSessions(self, request: pb.ListSessionsRequest, caller: Caller) -> pb.ListSessionsResponse:
        """Return a page of sessions."""
        by, value = session_filter(request)
        now = self._clock.now()
        page = await self._sessions.list(
            caller,
            by,
            value,
            live_at=now if request.active_only else None,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListSessionsResponse(
            sessions=[session_message(details, now) for details in page.sessions],
            next_page_token=page.next_page_token,
        )

    async def ExtendSession(
        self, request: pb.ExtendSessionRequest, caller: Caller
    ) -> pb.ExtendSessionResponse:
        """Move a session's idle expiry. The response has only the fields that this caller needs."""
        now = self._clock.now()
        session = await self._sessions.extend(
            caller,
            request.session_id,
            request.client_id,
            idle_timeout(request),
            now,
            client_context(request),
        )
        return pb.ExtendSessionResponse(session=extended_session(session, now))

    async def UpdateSession(
        self, request: pb.UpdateSessionRequest, caller: Caller
    ) -> pb.UpdateSessionResponse:
        """Change what later tokens of a session hold."""
        now = self._clock.now()
        session = await self._updates.update(caller, update_session_command(request), now)
        return pb.UpdateSessionResponse(session=updated_session(session, now))

    async def CountSessions(
        self, request: pb.CountSessionsRequest, caller: Caller
    ) -> pb.CountSessionsResponse:
        """Count the active sessions of a filter."""
        selection = session_selection(request.filter)
        return counted_sessions(await self._bulk_revocation.count(caller, selection, self._clock.now()))

    async def RevokeSessions(
        self, request: pb.RevokeSessionsRequest, caller: Caller
    ) -> pb.RevokeSessionsResponse:
        """Revoke the next part of the sessions of a filter."""
        command = revoke_sessions_command(request)
        return revoked_sessions(await self._bulk_revocation.revoke(caller, command, self._clock.now()))
