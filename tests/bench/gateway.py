"""The gateway of a rack as its clients meet it: TLS, and a key that is revoked when the measurement is over."""

from collections.abc import Iterator
from contextlib import contextmanager

from roles.model_serving.model import Model
from tests.bench.load import Endpoint
from tests.hosts.desk import key_on
from tests.hosts.questions import CERTIFICATE, node_ip
from tests.hosts.reach import CheckedRack

KEY_LIFETIME = "12h"


@contextmanager
def gateway_endpoint(checked: CheckedRack, model: Model) -> Iterator[Endpoint]:
    """Completions of a model through the head's gateway, at the address of its node, which its certificate names."""
    head = checked.head
    port, path = head.rack_host.settings.gateway_port, f"{model.route_prefix}/completions"
    trusted = head.run("cat %s", CERTIFICATE).stdout
    with key_on(head, prefix="bench-", lifetime=KEY_LIFETIME) as key:
        yield Endpoint(node_ip(head), port, path, model.model_id, key=key, trusted=trusted)
