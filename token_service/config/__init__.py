"""Configuration: what can be set, where a value comes from, and what is refused."""

from token_service.config.key_encryption import load_audit_keys, load_key_encryption_keys, prepare_data_dir
from token_service.config.settings import SETTINGS, Setting, Settings, load_settings, refusal
from token_service.config.values import Address, LogFormat, Profile, UnixSocket

__all__ = [
    "SETTINGS",
    "Address",
    "LogFormat",
    "Profile",
    "Setting",
    "Settings",
    "UnixSocket",
    "load_audit_keys",
    "load_key_encryption_keys",
    "load_settings",
    "prepare_data_dir",
    "refusal",
]
