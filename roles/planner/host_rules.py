"""The host programs' own rules, for the planner: what they decide on a host has its one home there.

Both modules are pure and standard library only. On a host, and for mypy, they are found by their plain names.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import node_config
    import serve_app
else:
    from roles.model_serving.host import serve_app
    from roles.ray_cluster.host import node_config

__all__ = ["node_config", "serve_app"]
