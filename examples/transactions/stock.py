"""The innermost service: accepts transaction tokens over gRPC, in threads."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import grpc

from token_service.client import (
    AuthInterceptor,
    AuthRules,
    ServiceIssuer,
    SyncTokenValidator,
    TokenKind,
    ValidatorConfig,
    current_claims,
    current_transaction,
)

issuer = ServiceIssuer(
    issuer=os.environ["ISSUER"],
    target=os.environ["TARGET"],
    token_kinds=frozenset({TokenKind.TRANSACTION}),
)
rules = AuthRules(trust_domain="shop.example", scopes={"/shop.Stock/Take": ["orders:write"]})


def take(item: bytes, context: grpc.ServicerContext) -> bytes:
    taken = {
        "item": item.decode(),
        "for": current_claims().subject,
        "requested_by": current_claims().client_id,
        "transaction": current_transaction().transaction_id,
    }
    return json.dumps(taken).encode()


if __name__ == "__main__":
    config = ValidatorConfig(issuers=[issuer], audience="shop.example")
    with SyncTokenValidator(config) as validator:
        validator.wait_ready()
        server = grpc.server(ThreadPoolExecutor(8), interceptors=[AuthInterceptor(validator, rules)])
        handler = grpc.unary_unary_rpc_method_handler(take)
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("shop.Stock", {"Take": handler})]
        )
        server.add_insecure_port(f"127.0.0.1:{os.environ['PORT']}")
        server.start()
        server.wait_for_termination()
