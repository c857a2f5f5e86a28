"""The models: one unit and one env file each, on the head. They start in the background; 90_verify.py waits."""

from deploy.inputs import run
from roles.model_serving import steps as model_serving

# Engines run on every node, wherever Ray puts them.
model_serving.install_engine_environment()
if run.this_host().is_head:
    model_serving.install(models=run.rack().models)
