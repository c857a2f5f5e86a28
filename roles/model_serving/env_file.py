"""Renders a model as /etc/rayrack/models/<slug>.env: one variable per field, so that each can be overridden alone.

systemd reads the file (EnvironmentFile= in systemd.exec(5)); the model's unit decodes the JSON.
"""

import json
from collections.abc import Sequence

from roles.model_serving.model import Model

START_ORDER = "/etc/rayrack/start-order"
_HEADER = """\
# Written by rayrack from the model list; a deploy replaces it. To change one value on this host alone, put its line
# into {slug}.override.env beside this file and run: systemctl restart rayrack-model@{slug}
"""


def render(model: Model) -> str:
    """The text of the file: every field of the model, in the order of the list's documentation."""
    values = model.model_dump(mode="json")
    return _HEADER.format(slug=model.slug) + "".join(
        f"RAYRACK_{name.upper()}='{quotable(value)}'\n" for name, value in values.items()
    )


def start_order(models: Sequence[Model]) -> str:
    """The text of /etc/rayrack/start-order: slugs in the order in which models start."""
    return "".join(f"{model.slug}\n" for model in models)


def quotable(value: object) -> str:
    """``value`` as ASCII JSON that may stand between single quotes in a systemd environment file.

    The names of a mapping are sorted, so that writing them in another order in the list changes nothing.

    systemd drops a line whose value has control characters or is not UTF-8; json.dumps leaves only printable ASCII.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=True)
    return text.replace("'", "\\u0027")
