"""Tokens of a client that another process has just registered."""

from __future__ import annotations

import grpc

from tests.support.deadline import eventually_sync
from token_service.v1.token_service_pb2 import IssueTokenRequest, IssueTokenResponse
from token_service.v1.token_service_pb2_grpc import TokenServiceStub


def issued_once_known(stub: TokenServiceStub, request: IssueTokenRequest) -> IssueTokenResponse:
    """Issue tokens as soon as the node knows the client: it reads the registry every second."""

    def issue() -> IssueTokenResponse | None:
        try:
            response: IssueTokenResponse = stub.IssueToken(request, timeout=30)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return None
        return response

    return eventually_sync(issue)
