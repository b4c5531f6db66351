"""What holds behind every proxy with its example. A test module per proxy inherits these tests."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import time
from typing import Any
from urllib.parse import quote, unquote

import grpc
import pytest

from tests.e2e.gateway_hostile_clients import HostileClients
from tests.e2e.gateway_load import requests_during_changes
from tests.e2e.gateway_world import AUDIENCE, MFA, Reply, World, bearer, claims_of, thumbprint
from tests.support.deadline import eventually_sync
from tests.unit.tokens.dpop_proofs import ProofMaker
from token_service.v1 import token_pb2


class GatewayContract(HostileClients):
    """The tests. The fixture `world` of the module has the proxy."""

    status_without_gateway: int
    """What the proxy answers while the gateway is gone."""
    status_with_silent_gateway: int
    has_http2_upstreams = True

    def test_allowed_request_has_the_identity_of_the_token(self, world: World) -> None:
        token = world.issue_session()
        assert world.ask("/orders/1?a=b", token).status == 200
        seen = world.upstream.seen[-1]
        assert seen.target == "/orders/1?a=b"
        assert seen.values("x-token-subject") == ["alice"]
        assert seen.values("x-token-client-id") == ["web"]
        assert seen.values("x-token-scope") == ["orders:read"]
        assert seen.values("x-token-session-id") == [claims_of(token)["sid"]]

    def test_long_and_unusual_identity_arrives(self, world: World) -> None:
        subject = "Zo\u00eb 100%, or so"
        scopes = ["orders:read", *(f"{number:02}" + "s" * 110 for number in range(60))]
        assert world.ask("/orders/1", world.issue(subject=subject, scopes=scopes)).status == 200
        seen = world.upstream.seen[-1]
        (arrived,) = seen.values("x-token-subject")
        assert (arrived.isascii(), unquote(arrived)) == (True, subject)
        assert seen.values("x-token-scope") == [" ".join(scopes)]

    def test_request_without_a_valid_token_is_refused_with_a_challenge(self, world: World) -> None:
        before = world.reached()
        good = world.issue()
        expired = world.issue(access_token_ttl={"seconds": 1})
        for_others = world.issue(audience=["https://other.example"])
        eventually_sync(lambda: time.time() >= claims_of(expired)["exp"])
        for token in (None, "nonsense", good[:-4] + "AAAA", expired, for_others):
            reply = world.ask("/orders/1", token)
            assert reply.status == 401, (token, reply.body)
            (challenge,) = reply.headers.get_all("www-authenticate") or []
            assert challenge.startswith("Bearer ")
            metadata = f'resource_metadata="{AUDIENCE}/.well-known/oauth-protected-resource"'
            assert metadata in challenge
            assert ('error="invalid_token"' in challenge) == (token is not None)
        basic = world.ask("/orders/1", headers=[("Authorization", "Basic YTpi")])
        twice = world.ask(
            "/orders/1", headers=[("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {good}")]
        )
        assert basic.status == 401
        assert twice.status in {400, 401}
        assert world.reached() == before

    def test_token_without_the_scope_is_refused_on_its_routes_only(self, world: World) -> None:
        token = world.issue(scopes=["invoices:read"])
        before = world.reached()
        reply = world.ask("/orders/1", token)
        assert reply.status == 403
        (challenge,) = reply.headers.get_all("www-authenticate") or []
        assert 'error="insufficient_scope"' in challenge
        assert 'scope="orders:read"' in challenge
        assert world.reached() == before
        assert world.ask("/account/1", token).status == 200

    def test_role_and_acr_of_a_route(self, world: World) -> None:
        before = world.reached()
        acr = token_pb2.AuthContext(acr=MFA)
        role = {"roles": ["admin", "reader"]}
        assert world.ask("/admin/1", world.issue(claims=role)).status == 401
        step_up = world.ask("/admin/1", world.issue(claims=role)).headers["www-authenticate"]
        assert 'error="insufficient_user_authentication"' in step_up
        assert f'acr_values="{MFA}"' in step_up
        assert world.ask("/admin/1", world.issue(auth_context=acr)).status == 403
        assert (
            world.ask("/admin/1", world.issue(claims={"roles": ["reader"]}, auth_context=acr)).status == 403
        )
        assert world.reached() == before
        assert world.ask("/admin/1", world.issue(claims=role, auth_context=acr)).status == 200

    def test_public_route_needs_no_token_and_ignores_one(self, world: World) -> None:
        for token in (None, "nonsense", world.issue()):
            assert world.ask("/public/1", token).status == 200
        metadata = world.ask("/.well-known/oauth-protected-resource")
        assert (metadata.status, json.loads(metadata.body)["resource"]) == (200, AUDIENCE)

    def test_cors_preflight_passes_where_it_is_allowed(self, world: World) -> None:
        preflight = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "GET")]
        assert world.ask("/browser/1", method="OPTIONS", headers=preflight).status == 200
        assert world.upstream.seen[-1].method == "OPTIONS"
        before = world.reached()
        assert world.ask("/browser/1", method="OPTIONS", headers=preflight[:1]).status == 401
        assert world.ask("/orders/1", method="OPTIONS", headers=preflight).status == 401
        assert world.ask("/browser/1", headers=preflight).status == 401
        assert world.reached() == before

    def test_body_of_a_request_is_not_lost(self, world: World) -> None:
        body = bytes(range(256)) * 1200
        token = world.issue()
        assert world.ask("/orders/1", token, method="POST", body=body).status == 200
        assert world.upstream.seen[-1].body == body
        before = world.reached()
        assert world.ask("/orders/1", method="PUT", body=b"small").status == 401
        assert world.reached() == before

    def test_revoked_token_is_refused_while_its_stream_goes_on(self, world: World) -> None:
        token = world.issue()
        with world.stream(token) as stream:
            assert world.ask("/orders/1", token).status == 200
            world.revoke(token)
            assert world.ask("/orders/1", token).status == 401
            world.upstream.push(b"more")
            assert stream.read1(100) == b"more"
            assert world.ask("/events/1", token).status == 401

    def test_web_socket_needs_a_token_at_its_start_only(self, world: World) -> None:
        token = world.issue()
        with world.web_socket(None) as (status, _):
            assert status == 401
        with world.web_socket(world.issue(scopes=["invoices:read"])) as (status, _):
            assert status == 403
        with world.web_socket(token) as (status, exchange):
            assert status == 101
            assert world.upstream.seen[-1].values("x-token-subject") == ["alice"]
            assert exchange(b"hello") == b"hello"
            world.revoke(token)
            assert exchange(b"still here") == b"still here"
        with world.web_socket(token) as (status, _):
            assert status == 401

    def test_grpc_application(self, world: World) -> None:
        token = world.issue()
        with world.grpc_channel() as channel:
            get: Any = channel.unary_unary("/orders.v1.Orders/Get")
            watch: Any = channel.unary_stream("/orders.v1.Orders/Watch")
            spoofed = [("x-token-subject", "root"), ("x-token-session-id", "root")]
            assert get(b"an order", metadata=[*bearer(token), *spoofed], timeout=60) == b"an order"
            seen = world.grpc_upstream.seen[-1]
            assert seen.values("x-token-subject") == ["alice"]
            assert "root" not in seen.values("x-token-session-id")

            before = world.reached()
            weak = world.issue(scopes=["invoices:read"])
            for metadata, code in (
                ([], grpc.StatusCode.UNAUTHENTICATED),
                (bearer(weak), grpc.StatusCode.PERMISSION_DENIED),
            ):
                with pytest.raises(grpc.RpcError) as refused:
                    get(b"an order", metadata=metadata, timeout=60)
                assert refused.value.code() is code
            assert world.reached() == before

            stream = watch(b"", metadata=bearer(token), timeout=120)
            assert next(stream) == b"first"
            world.revoke(token)
            with pytest.raises(grpc.RpcError) as refused:
                get(b"an order", metadata=bearer(token), timeout=60)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            world.grpc_upstream.push()
            assert next(stream) == b"more"
            stream.cancel()

    def test_http2_application(self, world: World) -> None:
        if not self.has_http2_upstreams:
            assert world.ask("/http2/1", world.issue()).status == 404
            return
        body = b"order" * 1000
        assert world.ask("/http2/1", world.issue(), method="POST", body=body).status == 200
        seen = world.upstream.seen[-1]
        assert (seen.version, seen.body, seen.values("x-token-subject")) == ("HTTP/2", body, ["alice"])
        before = world.reached()
        assert world.ask("/http2/1").status == 401
        assert world.reached() == before

    def test_dpop_bound_token_needs_a_proof_of_this_request(self, world: World) -> None:
        key = ProofMaker()
        token = world.issue(confirmation=token_pb2.Confirmation(jkt=key.jkt))

        def ask(proof: str | None, scheme: str = "DPoP", method: str = "GET") -> int:
            headers = [("Authorization", f"{scheme} {token}")]
            if proof is not None:
                headers.append(("DPoP", proof))
            return world.ask("/orders/1?a=b", method=method, headers=headers).status

        def proof(key: ProofMaker = key, path: str = "/orders/1", method: str = "GET") -> str:
            return key.proof(token=token, method=method, uri=AUDIENCE + path, now=time.time())

        good = proof()
        assert ask(good) == 200
        before = world.reached()
        assert ask(good) == 401
        assert ask(None) == 401
        assert ask(None, "Bearer") == 401
        assert ask(proof(), "Bearer") == 401
        assert ask(proof(path="/orders/2")) == 401
        assert ask(proof(method="POST")) == 401
        assert ask(proof(ProofMaker())) == 401
        assert world.reached() == before
        assert ask(proof(method="DELETE"), method="DELETE") == 200

    def test_nonce_of_proofs_reaches_the_client_after_a_reload(self, world: World) -> None:
        key = ProofMaker()
        token = world.issue(confirmation=token_pb2.Confirmation(jkt=key.jkt))

        def ask(**nonce: Any) -> Reply:
            proof = key.proof(token=token, uri=f"{AUDIENCE}/orders/1", now=time.time(), **nonce)
            return world.ask("/orders/1", headers=[("Authorization", f"DPoP {token}"), ("DPoP", proof)])

        assert ask().status == 200
        with world.gateway.reconfigured("[proofs]", '[proofs]\nnonce_keys = "nonce.keys"'):
            eventually_sync(lambda: ask().status == 401)
            refused = ask()
            assert 'error="use_dpop_nonce"' in refused.headers["www-authenticate"]
            assert ask(nonce=refused.headers["dpop-nonce"]).status == 200
            assert ask(nonce="other").status == 401
        eventually_sync(lambda: ask().status == 200)

    def test_certificate_bound_token_needs_its_certificate(self, world: World) -> None:
        own, other = world.authority.caller(dns_name="web"), world.authority.caller(dns_name="web")
        token = world.issue(confirmation=token_pb2.Confirmation(x5t_s256=thumbprint(own)))
        assert world.ask("/orders/1", token, certificate=own).status == 200
        before = world.reached()
        assert world.ask("/orders/1", token, certificate=other).status == 401
        assert world.ask("/orders/1", token).status == 401
        der = ssl.PEM_cert_to_DER_cert(own.certificate.decode())
        forwarded = [
            ("X-Forwarded-Client-Cert", f"Hash={hashlib.sha256(der).hexdigest()}"),
            ("Client-Cert", f":{base64.b64encode(der).decode()}:"),
            ("X-Client-Certificate", quote(own.certificate.decode())),
        ]
        for headers in (forwarded, forwarded[:1], forwarded[1:2], forwarded[2:]):
            assert world.ask("/orders/1", token, headers=headers).status == 401
        assert world.reached() == before

    def test_no_false_answer_to_10000_requests_while_keys_rotate_and_tokens_are_revoked(
        self, world: World
    ) -> None:
        requests_during_changes(world, 10_000)

    @pytest.mark.parametrize("silent", [False, True], ids=["killed", "silent"])
    def test_without_the_token_service_requests_are_unavailable(self, world: World, *, silent: bool) -> None:
        token = world.issue()
        assert world.ask("/orders/1", token).status == 200
        (world.service.pause if silent else world.service.kill)()
        try:
            eventually_sync(lambda: world.ask("/orders/1", token).status == 503)
            before = world.reached()
            reply = world.ask("/orders/1", token)
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert world.ask("/orders/1").status == 401
            with world.grpc_channel() as channel:
                get: Any = channel.unary_unary("/orders.v1.Orders/Get")
                with pytest.raises(grpc.RpcError) as refused:
                    get(b"", metadata=bearer(token), timeout=60)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert world.reached() == before
            assert world.ask("/public/1").status == 200
        finally:
            (world.service.resume if silent else world.service.start)()
        eventually_sync(lambda: world.ask("/orders/1", token).status == 200)

    def test_without_the_gateway_no_request_passes(self, world: World) -> None:
        token = world.issue()
        assert world.ask("/orders/1", token).status == 200
        world.gateway.pause()  # connected, but silent
        before = world.reached()
        silent = world.ask("/orders/1", token).status
        world.gateway.resume()
        assert silent == self.status_with_silent_gateway
        assert world.reached() == before
        eventually_sync(lambda: world.ask("/orders/1", token).status == 200)
        world.gateway.kill()
        before = world.reached()
        paths = ("/orders/1", "/public/1", "/account/1", "/events/1")
        assert {world.ask(path, token).status for path in paths} == {self.status_without_gateway}
        assert world.reached() == before
        world.gateway.start()
        eventually_sync(lambda: world.ask("/orders/1", token).status == 200)
