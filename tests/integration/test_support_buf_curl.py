"""The `buf curl` wrapper, against a server that has only the health service and fails on request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from tests.support import buf_curl

if TYPE_CHECKING:
    from collections.abc import Iterator

HEALTH = "grpc.health.v1.Health"


class Health(health.HealthServicer):
    def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        if request.service == "fail":
            details = [any_pb2.Any(), any_pb2.Any()]
            details[0].Pack(error_details_pb2.ErrorInfo(reason="BROKEN", domain="token_service"))
            violation = error_details_pb2.BadRequest.FieldViolation(field="service", description="not this")
            details[1].Pack(error_details_pb2.BadRequest(field_violations=[violation]))
            failure = status_pb2.Status(code=9, message='not "now"\n{}', details=details)
            context.abort_with_status(rpc_status.to_status(failure))
        if request.service == "header":
            request.service = str(dict(context.invocation_metadata()).get("x-service", ""))
        return super().Check(request, context)


@pytest.fixture
def servicer() -> Health:
    return Health()


@pytest.fixture
def address(servicer: Health) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection([HEALTH, reflection.SERVICE_NAME], server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait(10)


def test_a_call_returns_the_message(address: str, servicer: Health) -> None:
    servicer.set("x", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert buf_curl.call(address, f"{HEALTH}/Check") == {"status": "SERVING"}
    assert buf_curl.call(address, f"{HEALTH}/Check", {"service": "x"}) == {"status": "NOT_SERVING"}
    answer = buf_curl.call(address, f"{HEALTH}/Check", {"service": "header"}, headers={"x-service": "x"})
    assert answer == {"status": "NOT_SERVING"}


def test_an_error_keeps_its_code_message_and_reason(address: str) -> None:
    with pytest.raises(buf_curl.BufCurlError) as caught:
        buf_curl.call(address, f"{HEALTH}/Check", {"service": "fail"})
    assert (caught.value.code, caught.value.message) == ("failed_precondition", 'not "now"\n{}')
    assert caught.value.reason == "BROKEN"
    assert caught.value.violations == {"service": "not this"}
    with pytest.raises(buf_curl.BufCurlError) as caught:
        buf_curl.call(address, f"{HEALTH}/Check", {"service": "unknown"})
    assert (caught.value.code, caught.value.reason) == ("not_found", None)
    assert caught.value.violations == {}


def test_a_stream_is_read_while_it_runs(address: str, servicer: Health) -> None:
    with buf_curl.Stream(address, f"{HEALTH}/Watch") as stream:
        assert stream.next() == {"status": "SERVING"}
        servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert stream.next() == {"status": "NOT_SERVING"}
        with pytest.raises(TimeoutError):
            stream.next(timeout=0.05)


def test_the_end_of_a_stream_is_an_error_with_its_code(address: str) -> None:
    with buf_curl.Stream("127.0.0.1:1", f"{HEALTH}/Watch") as stream:
        for _ in range(2):
            with pytest.raises(buf_curl.BufCurlError):
                stream.next()
    with buf_curl.Stream(address, f"{HEALTH}/Check", {"service": "fail"}) as stream:
        with pytest.raises(buf_curl.BufCurlError) as caught:
            stream.next()
        assert caught.value.code == "failed_precondition"
    with buf_curl.Stream(address, f"{HEALTH}/Check") as stream:
        assert stream.next() == {"status": "SERVING"}
        with pytest.raises(EOFError):
            stream.next()
