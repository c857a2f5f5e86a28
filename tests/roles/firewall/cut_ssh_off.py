"""A deploy file for test_firewall_in_lab.py: rules that let no SSH in, given to the firewall's own operation.

`--data cut=new`: no new connection; `--data cut=all`: no packet at all, so that this very run is cut off.
"""

from io import StringIO

from pyinfra.context import host
from pyinfra.operations import files

from roles.firewall import activation, steps

RULES = {"new": "tcp dport 22 tcp flags & (syn | ack) == syn drop", "all": "iif lo accept; drop"}
TABLE = """table inet rayrack
delete table inet rayrack
table inet rayrack {{
    chain input {{
        type filter hook input priority filter; policy accept;
        {rules}
    }}
}}
"""

files.put(
    name="A candidate that cuts SSH off",
    src=StringIO(TABLE.format(rules=RULES[host.data.cut])),
    dest=activation.CANDIDATE,
)
steps.closed(name="Try it")
