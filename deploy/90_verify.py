"""Wait until every model has answered; end with all failures together."""

from deploy.inputs import run
from roles.verification import steps as verification

if run.this_host().is_head:
    verification.wait_until_served(models=run.rack().models, gateway_url=run.gateway_url())
