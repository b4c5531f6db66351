"""Configuration: the settings, their sources, and the checks that refuse them."""

from token_service.config.key_encryption import (
    load_audit_keys,
    load_key_encryption_keys,
    load_pairwise_key,
    prepare_data_dir,
)
from token_service.config.loading import load_settings, refusal
from token_service.config.setting import Setting
from token_service.config.settings import SETTINGS, Settings
from token_service.config.values import Address, LogFormat, MetricsPlace, Profile, UnixSocket

__all__ = [
    "SETTINGS",
    "Address",
    "LogFormat",
    "MetricsPlace",
    "Profile",
    "Setting",
    "Settings",
    "UnixSocket",
    "load_audit_keys",
    "load_key_encryption_keys",
    "load_pairwise_key",
    "load_settings",
    "prepare_data_dir",
    "refusal",
]
