"""The host itself: what every later role stands on."""

from deploy.inputs import run, secrets
from roles.base_system import steps as base_system
from roles.secrets import steps as secret_files
from roles.storage import ray_disk
from roles.storage import steps as storage

settings = run.this_host().settings

base_system.install(
    limit_nofile=settings.limit_nofile,
    dev_shm_mib=settings.dev_shm_mib,
    http_proxy=settings.http_proxy,
    no_proxy=settings.no_proxy,
)
# The directories of storage belong to the user that base_system makes.
storage.install(
    ray_temp_dir=settings.ray_temp_dir,
    weights_dir=settings.weights_dir,
    cache_dir=settings.cache_dir,
    ray_disk=ray_disk.of(settings.ray_temp_size_gib, settings.ray_temp_image, settings.ray_temp_dir),
)
# Before Ray: a node's unit takes them along when it starts.
secret_files.install(files=secrets.of_run().of_host(run.this_host().name))
