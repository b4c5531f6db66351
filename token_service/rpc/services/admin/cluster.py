"""GetOverview, ListNodes and ListSubscribers."""

from __future__ import annotations

from collections.abc import Sequence

from token_service.core.access.caller import Caller
from token_service.core.reports.cluster.nodes import ClusterNodes
from token_service.core.reports.cluster.overview import ClusterOverview
from token_service.core.reports.cluster.subscribers import ClusterSubscribers
from token_service.rpc.convert.admin.cluster import (
    node_message,
    overview_message,
    subscriber_query,
    subscribers_message,
)
from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import admin_service_pb2 as pb


class ClusterPart:
    """The state of the whole service."""

    def __init__(
        self, overview: ClusterOverview, nodes: ClusterNodes, subscribers: ClusterSubscribers
    ) -> None:
        self._overview = overview
        self._nodes = nodes
        self._subscribers = subscribers

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `AdminPart`)."""
        return (
            UnaryMethod("GetOverview", pb.GetOverviewRequest, self.GetOverview),
            UnaryMethod("ListNodes", pb.ListNodesRequest, self.ListNodes),
            UnaryMethod("ListSubscribers", pb.ListSubscribersRequest, self.ListSubscribers),
        )

    async def GetOverview(self, request: pb.GetOverviewRequest, caller: Caller) -> pb.GetOverviewResponse:
        """Return the state of the whole service."""
        return overview_message(await self._overview.get(caller))

    async def ListNodes(self, request: pb.ListNodesRequest, caller: Caller) -> pb.ListNodesResponse:
        """List the running nodes."""
        return pb.ListNodesResponse(nodes=map(node_message, await self._nodes.list(caller)))

    async def ListSubscribers(
        self, request: pb.ListSubscribersRequest, caller: Caller
    ) -> pb.ListSubscribersResponse:
        """List a page of the subscribers of all nodes."""
        return subscribers_message(await self._subscribers.list(caller, subscriber_query(request)))
