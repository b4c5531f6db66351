"""The use cases, one a file.

They speak to the world through the protocols in `ports` and are told the time.
"""
