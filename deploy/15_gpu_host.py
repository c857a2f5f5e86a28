"""What makes a host with GPUs: the driver, before anything that uses it. A host without GPUs passes through."""

from deploy.inputs import run
from roles.nvidia_driver import steps as nvidia_driver

this = run.this_host()

nvidia_driver.install(plan=run.driver_plan_of(this.name), allow_reboot=this.settings.allow_reboot)
