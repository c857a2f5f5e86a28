"""The gateway, on the head unless told otherwise. It answers from its first second; a model that is not up is a 503."""

from deploy.inputs import run
from roles.gateway import steps as gateway

this = run.this_host()
if run.has_gateway(this):
    models, config = run.gateway_models(), run.gateway_config(this)
    gateway.install(models=models, gateway=config)
    gateway.start(models=models, gateway=config, names=run.gateway_names(this))
else:
    gateway.remove()
