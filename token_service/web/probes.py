"""The probes of an orchestrator.

- `GET /livez` and `GET /healthz`: 200 as long as the process answers. After a failure, restart the process.
- `GET /startupz`: 200 since the service was ready for the first time, else 503. Before that, wait.
- `GET /readyz`: 200 if the service can serve calls, else 503 with the problems. After a failure, send calls to other
  nodes.
- `GET /version`: the version of the service and the revision of the schema that it needs.

`?verbose` lists the checks behind a probe, in the format of Kubernetes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from token_service.core.access.gate import UseCase
from token_service.web.edge import UNCACHED, HttpEdge

Checks = Mapping[str, str | None]
"""What must hold, by a short name: the problem, or None."""

_ALIVE: Final[Checks] = {"ping": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """The state that the probes show. No text may contain a secret: every caller may read it."""

    readiness: Callable[[], Checks]
    """Returns the conditions for serving calls."""
    startup: Callable[[], Checks]
    """Returns the conditions for a complete start."""
    version: Mapping[str, str]

    def routes(self, edge: HttpEdge) -> list[Route]:
        """Return the routes. No limit on requests applies to them."""

        async def livez(request: Request) -> Response:
            return _text("livez", _ALIVE, request)

        async def startupz(request: Request) -> Response:
            return _text("startupz", self.startup(), request)

        async def readyz(request: Request) -> Response:
            checks = self.readiness()
            if "verbose" in request.query_params:
                return _text("readyz", checks, request)
            problems = [problem for problem in checks.values() if problem is not None]
            return JSONResponse({"ready": not problems, "problems": problems}, _status(checks), UNCACHED)

        async def version(_: Request) -> Response:
            return JSONResponse(dict(self.version), headers=UNCACHED)

        return [
            edge.route(path, UseCase.GET_HEALTH, endpoint, always=True)
            for path, endpoint in (
                ("/livez", livez),
                ("/healthz", livez),
                ("/startupz", startupz),
                ("/readyz", readyz),
                ("/version", version),
            )
        ]


def _text(name: str, checks: Checks, request: Request) -> Response:
    status = _status(checks)
    if status == 200 and "verbose" not in request.query_params:
        return PlainTextResponse("ok\n", headers=UNCACHED)
    lines = [
        f"[+]{check} ok" if problem is None else f"[-]{check} failed: {problem}"
        for check, problem in checks.items()
    ]
    outcome = "passed" if status == 200 else "failed"
    return PlainTextResponse("\n".join([*lines, f"{name} check {outcome}", ""]), status, UNCACHED)


def _status(checks: Checks) -> int:
    return 503 if any(problem is not None for problem in checks.values()) else 200
