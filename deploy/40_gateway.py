"""The gateway, on the head. It answers from its first second; models that are not up yet get a 503."""

from deploy.inputs import run
from roles.gateway import steps as gateway

if run.this_host().is_head:
    gateway.install(models=run.gateway_models(), gateway=run.gateway_config())
