"""A deploy file of the tests: the clean-up of Ray's files on a host without Ray, which deploy/20_ray.py would bring."""

from deploy.inputs import run
from roles.ray_cleanup import steps as ray_cleanup

ray_cleanup.install(cleanup=ray_cleanup.CleanUp.from_settings(run.this_host().settings))
