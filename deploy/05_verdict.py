"""Show the plan, and stop here with every problem of it and of every host, or go on. All hosts have been looked at."""

from deploy.inputs import planning, run

run.stop_on_problems(planning.show())
