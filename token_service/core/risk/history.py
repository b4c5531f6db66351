"""The history of a session: how a use changes what the next use is compared with."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import structs

from token_service.core.access.rates import network_of
from token_service.core.risk.observation import History, Observation, Seen, Use
from token_service.core.risk.signals import RenewalRhythm, program_of

MAX_ORIGINS: Final = 5
"""Origins that a session keeps. Users have a few networks and one program for each session."""


class _Kept(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    origins: tuple[Seen, ...] = ()
    quick_renewals: int = 0


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Kept).decode


def likeness(address: str, user_agent: str, device_id: str) -> tuple[str, str, str]:
    """Return what makes two origins alike: the network of the address, the program without its version, the device."""
    return network_of(address), program_of(user_agent), device_id


def is_reported(observation: Observation) -> bool:
    """Tell whether the caller reported an origin."""
    return bool(observation.address or observation.user_agent or observation.device_id)


def format_history(history: History) -> str:
    """Return what a session keeps of its history besides times that its row has anyway. It has personal data."""
    return _encode(_Kept(history.origins, history.quick_renewals)).decode()


def parse_history(text: str) -> History:
    """Return the history in a text of `format_history`; an empty one for every other text."""
    try:
        kept = _decode(text)
    except msgspec.MsgspecError:
        return History()
    return History(origins=kept.origins[:MAX_ORIGINS], quick_renewals=kept.quick_renewals)


def after(observation: Observation, rhythm: RenewalRhythm | None = None) -> History:
    """Return the history of the session after a use that was accepted. Only a refresh changes it."""
    history = observation.history
    if observation.use is not Use.REFRESH:
        return history
    origins = history.origins
    if is_reported(observation):
        seen = Seen(observation.time, observation.address, observation.user_agent, observation.device_id)
        like = likeness(seen.address, seen.user_agent, seen.device_id)
        others = (each for each in origins if likeness(each.address, each.user_agent, each.device_id) != like)
        origins = (seen, *others)[:MAX_ORIGINS]
    quick = rhythm is not None and rhythm.is_quick(
        history.renewed, observation.time, observation.access_token_ttl
    )
    return structs.replace(
        history,
        origins=origins,
        renewed=observation.time,
        quick_renewals=history.quick_renewals + 1 if quick else 0,
    )
