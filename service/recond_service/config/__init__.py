"""Settings of the service: typed groups, filled from flags, environment, a TOML file and defaults, in that order."""

from recond_service.config.addresses import is_loopback, read_weights, split_address
from recond_service.config.options import settings_options
from recond_service.config.settings import Settings
from recond_service.config.sources import SettingsError, load_settings

__all__ = [
    "Settings",
    "SettingsError",
    "is_loopback",
    "load_settings",
    "read_weights",
    "settings_options",
    "split_address",
]
