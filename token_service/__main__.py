"""`python -m token_service` is `token-service`."""

from token_service.cli import main

main()
