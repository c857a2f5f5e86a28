"""Look at every host, and at what is asked of it, before anything is changed."""

from deploy.inputs import firewall, planning, run

planning.stop_if_unreachable()
run.look_at_this_host()
firewall.look_at_this_host()
planning.look_at_this_host()
