"""Look at every host, and at what is asked of it, before anything is changed."""

from deploy.inputs import run

run.stop_if_unreachable()
run.look_at_this_host()
