"""Generated protocol stubs of package `token_service.v1`."""
