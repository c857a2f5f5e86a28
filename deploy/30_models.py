"""The models: one unit and one env file each, on the head. They start in the background; 90_verify.py waits."""

from deploy.inputs import run
from roles.model_serving import steps as model_serving

this = run.this_host()

# Engines run on every node, wherever Ray puts them.
model_serving.install_engine_environment()
if this.is_head:
    model_serving.install(
        models=run.rack().models, weights_dir=this.settings.weights_dir, cache_dir=this.settings.cache_dir
    )
