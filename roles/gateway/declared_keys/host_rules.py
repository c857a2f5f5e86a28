"""The host's own module of keys: how a key is written has its one home there.

It is pure and standard library only. On a host, and for mypy, it is found by its plain name.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gateway_keys
else:
    from roles.gateway.host import gateway_keys

__all__ = ["gateway_keys"]
