"""URLs and views of the Django shop."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.support.frameworks import PAGE
from token_service.client.wsgi import current_claims


def who(request: HttpRequest) -> HttpResponse:
    """Answer with the subject."""
    if request.method == "OPTIONS":
        body = ""
    else:
        claims = request.META.get("token_service.claims")
        assert claims is None or claims is current_claims()
        body = "public" if claims is None else claims.subject
    response = HttpResponse(body)
    if request.headers.get("origin") == PAGE:
        response["access-control-allow-origin"] = PAGE
        response["access-control-allow-headers"] = "authorization"
    return response


urlpatterns = [path(name, who) for name in ("orders", "reports", "payments", "healthz")]
