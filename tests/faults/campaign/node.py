"""A node started by the campaign: `python -m tests.faults.campaign.node [--defect NAME] serve`.

It runs `token-service` itself. Only this harness can put a defect into it.
"""

from __future__ import annotations

import sys

from tests.support.libfaketime import repair_sleep


def main() -> None:
    repair_sleep()
    if sys.argv[1:2] == ["--defect"]:
        from tests.faults.campaign.defects import DEFECTS

        DEFECTS[sys.argv[2]].in_node()
        del sys.argv[1:3]
    from token_service.__main__ import main as service

    service()


if __name__ == "__main__":
    main()
