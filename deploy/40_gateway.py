"""The gateway, on the head unless told otherwise. It answers from its first second; a model that is not up is a 503."""

from deploy.inputs import run, secrets
from roles.gateway import steps as gateway
from roles.secrets import steps as secret_files

this = run.this_host()
if this.has_gateway:
    models, config = run.gateway_models(), run.gateway_config(this)
    gateway.install(models=models, gateway=config)
    secret_files.put(name="Declared keys, and a certificate of its own", files=secrets.of_run().of_gateway(this.name))
    gateway.start(models=models, gateway=config, names=run.gateway_names(this))
else:
    gateway.remove()
