"""Look at every host, and at what is asked of it, before anything is changed."""

from deploy.inputs import planning, run, secrets

planning.stop_if_unreachable()
secrets.of_run()
run.look_at_this_host()
planning.look_at_this_host()
