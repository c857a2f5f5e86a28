"""Wait until every model has answered; end with all failures together."""

from deploy.inputs import run
from roles.model_serving import steps as model_serving

if run.this_host().is_head:
    model_serving.wait_until_ready(models=run.rack().models)
