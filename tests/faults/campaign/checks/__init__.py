"""Checks of a recorded history. Each check takes every record and can report its findings at any time."""
