"""Callers, their permissions and their quotas."""
