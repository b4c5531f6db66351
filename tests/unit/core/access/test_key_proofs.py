"""Which keys a caller proves for the holder of a token."""

from __future__ import annotations

import pytest

from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from tests.unit.tokens.dpop_proofs import ProofMaker
from token_service.core.access.caller import Caller
from token_service.core.access.proved_keys import NO_KEYS, ProvedKeys
from token_service.core.access.rights import Rights
from token_service.errors import BindingRequiredError, ProofInvalidError, WrongKeyError
from token_service.tokens.claims import Confirmation
from token_service.tokens.possession import NOTHING_PRESENTED, Presented

NAMED, OWN = "n" * 43, "o" * 43
URI = "https://bff.example/refresh"


def a_caller(client_id: str = "", certificate: str = "") -> Caller:
    return Caller("caller", Rights(), client_id=client_id, certificate_thumbprint=certificate)


@pytest.mark.parametrize(
    ("caller", "named", "counts"),
    [
        (a_caller(), NAMED, NAMED),
        (a_caller(certificate=OWN), NAMED, NAMED),
        (a_caller(certificate=OWN), "", OWN),
        (a_caller("login", OWN), NAMED, NAMED),
        # The client itself could name the certificate that its stolen token tells.
        (a_caller("web"), NAMED, ""),
        (a_caller("web", OWN), NAMED, OWN),
        (a_caller("web", OWN), "", OWN),
    ],
)
async def test_client_itself_proves_only_the_certificate_of_its_connection(
    caller: Caller, named: str, counts: str
) -> None:
    proofs = Node(ManualClock()).core.key_proofs
    keys = proofs.prove_of_holder(caller, "web", Presented(certificate_thumbprint=named))
    assert (keys.certificate_thumbprint, keys.jkt) == (counts, "")
    assert proofs.prove_of_holder(a_caller(), "web", NOTHING_PRESENTED) == NO_KEYS


async def test_proof_for_another_recipient_is_of_the_uri_that_the_caller_names() -> None:
    node, maker = Node(ManualClock()), ProofMaker()
    proof = maker.proof(token=None, method="POST", uri=URI, now=node.clock.now())
    presented = Presented(dpop_proof=proof, method="POST", uri=URI)
    keys = node.core.key_proofs.prove_of_holder(a_caller("web"), "web", presented)
    assert keys.jkt == maker.jkt
    await keys.record()
    with pytest.raises(ProofInvalidError):
        await keys.record()
    elsewhere = Presented(dpop_proof=proof, method="POST", uri="https://api.example/refresh")
    with pytest.raises(ProofInvalidError):
        node.core.key_proofs.prove_of_holder(a_caller("web"), "web", elsewhere)


async def test_proof_of_a_resource_renews_nothing() -> None:
    node, maker = Node(ManualClock()), ProofMaker()
    proof = maker.proof(token="an.access.token", method="POST", uri=URI, now=node.clock.now())
    presented = Presented(dpop_proof=proof, method="POST", uri=URI)
    with pytest.raises(ProofInvalidError, match="ath"):
        node.core.key_proofs.prove_of_holder(a_caller(), "web", presented)
    # At an endpoint of this service, the URI of the endpoint tells what the proof is for.
    assert node.core.key_proofs.prove(presented, "web").jkt == maker.jkt


async def test_proof_that_became_old_while_its_request_waited_is_refused() -> None:
    node, maker = Node(ManualClock()), ProofMaker()
    proof = maker.proof(token=None, method="POST", uri=URI, now=node.clock.now())
    keys = node.core.key_proofs.prove(Presented(dpop_proof=proof, method="POST", uri=URI), "web")
    node.clock.elapsed += 71
    with pytest.raises(ProofInvalidError, match="iat"):
        await keys.record()


@pytest.mark.parametrize(
    ("bound", "keys", "error"),
    [
        (Confirmation(), NO_KEYS, None),
        (Confirmation(), ProvedKeys(jkt=OWN), None),
        (Confirmation(jkt=OWN), ProvedKeys(jkt=OWN), None),
        (Confirmation(x5t_s256=OWN), ProvedKeys(certificate_thumbprint=OWN), None),
        (Confirmation(jkt=OWN), NO_KEYS, BindingRequiredError),
        (Confirmation(jkt=OWN), ProvedKeys(certificate_thumbprint=OWN), BindingRequiredError),
        (Confirmation(x5t_s256=OWN), ProvedKeys(jkt=OWN), BindingRequiredError),
        (Confirmation(is_unknown=True), ProvedKeys(jkt=OWN), BindingRequiredError),
        (Confirmation(jkt=OWN), ProvedKeys(jkt=NAMED), WrongKeyError),
        (Confirmation(x5t_s256=OWN), ProvedKeys(certificate_thumbprint=NAMED), WrongKeyError),
        (Confirmation(jkt="ö"), ProvedKeys(jkt=OWN), WrongKeyError),
        (Confirmation(jkt=OWN, x5t_s256=OWN), ProvedKeys(jkt=OWN), BindingRequiredError),
    ],
    ids=str,
)
def test_bound_token_needs_each_of_its_keys(
    bound: Confirmation, keys: ProvedKeys, error: type[Exception] | None
) -> None:
    if error is None:
        keys.require(bound, "the token")
    else:
        with pytest.raises(error):
            keys.require(bound, "the token")
