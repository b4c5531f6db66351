"""The use cases, one feature a package, with its ports beside it.

They speak to the world through these ports and are told the time.
"""
