"""The firewall, on every host before Ray starts on any: a new host is let in by all others first."""

from deploy.inputs import firewall, run
from roles.firewall import steps

steps.install(rules=firewall.rules_of(run.this_host()))
