"""Wait until every model has answered and clients can reach it; end with all failures together."""

from deploy.inputs import run
from roles.verification import steps as verification

this = run.this_host()
if this.is_head:
    verification.wait_until_ready(models=run.rack().models)
# A gateway lists a model once it is up.
if this.has_gateway:
    verification.wait_until_listed(
        models=run.rack().models, gateway_url=run.gateway_url(this), first_key=run.first_key(this)
    )
