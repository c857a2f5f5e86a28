"""Stop here, with every problem of every host, or go on. All hosts have been looked at when this file is read."""

from deploy.inputs import run

run.stop_on_problems()
