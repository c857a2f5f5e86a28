"""The Ray cluster: the runtime it is made of, its clean-up, its nodes."""

from deploy.inputs import planning, run
from roles.ray_cleanup import steps as ray_cleanup
from roles.ray_cluster import steps as ray_cluster
from roles.serving_runtime import steps as serving_runtime

this = run.this_host()
settings = this.settings
node = run.node_of(this)

serving_runtime.install(
    runtime=settings.runtime,
    lock=run.lock_of(this.name),
    wheelhouse=settings.runtime_wheelhouse,
    index_url=settings.runtime_index_url,
    cpu_torch_index_url=settings.runtime_cpu_torch_index_url,
    http_proxy=settings.http_proxy,
    no_proxy=settings.no_proxy,
)
ray_cleanup.install(cleanup=ray_cleanup.CleanUp.from_settings(settings))
# The token is on all hosts before a node restarts with it; then the head first, as workers wait for it.
ray_cluster.install_token(head=None if this.is_head else run.head(), instead_of=planning.token_to_replace())
if this.is_head:
    ray_cluster.install_head(node=node)
else:
    ray_cluster.install_worker(node=node)
