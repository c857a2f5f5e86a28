"""pyinfra's settings for every run from this directory (https://docs.pyinfra.com/en/3.x/config.html)."""

REQUIRE_PYINFRA_VERSION = "==3.10.0"
