"""The GPUs: may they serve? After the driver's steps, and before anything is put on top of it."""

from deploy.inputs import gpu_gate, run
from roles.gpu_health import facts
from roles.gpu_health import steps as gpu_health
from roles.gpu_health.expected import Expected

this = run.this_host()
settings = this.settings

if gpu_gate.applies(settings):
    gpu_health.install(pynvml=facts.pynvml(), metrics_dir=settings.metrics_dir, override=settings.gpu_health_override)
    gpu_health.gate(
        name="The GPUs may serve",
        expected=Expected.from_settings(settings),
        timeout_s=settings.gpu_health_timeout_s,
        override=settings.gpu_health_override,
        is_head=this.is_head,
    )
# All hosts have passed their gate when the head comes here, or are out of the run.
if this.is_head:
    gpu_health.rack_still_holds(
        name="The models fit on the hosts that are left", problems=run.models_that_lost_their_hosts
    )
