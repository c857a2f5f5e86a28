"""The checks of ``make verify``: what must be true on the hosts of an inventory after a deploy. They change nothing."""
