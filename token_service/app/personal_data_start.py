"""The decision at the start of a node whether the personal data of its database is encrypted."""

from __future__ import annotations

import logging
import time
from typing import Final

from token_service.config import Settings
from token_service.core.events.event import Actor
from token_service.core.personal_data.keys import EncryptionState
from token_service.core.subscribers.node_store import NodeReport
from token_service.core.subscribers.reports import REPORT_AGE
from token_service.errors import ConfigurationError
from token_service.stores.sql.stores import SqlStores

_FIRST_SCHEMA: Final = "0017"
"""The first schema whose nodes read encrypted personal data."""
_SYSTEM: Final = Actor.system("start")

logger = logging.getLogger(__name__)


async def settle_personal_data(settings: Settings, stores: SqlStores) -> EncryptionState:
    """Load the keys of personal data, and turn the encryption on for a new database if the settings say so.

    Raises `ConfigurationError` if the keys can't be used, or if the setting is `on` and the database holds unencrypted
    personal data.
    """
    keys = await stores.personal_data.load()
    wanted = settings.personal_data_encryption
    if keys.state is EncryptionState.OFF:
        is_wanted = wanted == "on" or (wanted == "auto" and settings.is_production)
        if is_wanted and not await older_nodes(stores):
            await stores.personal_data_changes.enable_if_empty(_SYSTEM, time.time())
            keys = await stores.personal_data.load()
        if wanted == "on" and keys.state is EncryptionState.OFF:
            raise ConfigurationError(
                "TOKEN_SERVICE_PERSONAL_DATA_ENCRYPTION is `on`, but the database holds unencrypted personal data; run "
                "`token-service personal-data encrypt`, or set it to `auto`"
            )
    elif wanted == "off":
        logger.warning(
            "TOKEN_SERVICE_PERSONAL_DATA_ENCRYPTION is `off`, but the personal data of the database is encrypted and "
            "stays so; `token-service personal-data decrypt` turns it off"
        )
    return keys.state


async def older_nodes(stores: SqlStores) -> list[str]:
    """Return the running nodes that can't read encrypted personal data."""
    return [
        report.node_id for report in await stores.nodes.reports(REPORT_AGE, purge=False) if _is_older(report)
    ]


def _is_older(report: NodeReport) -> bool:
    return report.details is None or report.details.schema_revision < _FIRST_SCHEMA
