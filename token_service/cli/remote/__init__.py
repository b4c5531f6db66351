"""Commands that call a running service over gRPC.

A command over gRPC takes `options.service_options` and gets a `Service`. A command that works on the database as well
takes `place.place_options` and gets a `Settings` or a `Service`.
"""
