"""The tables of settings in the docs, made from the fields they describe.

``python -m roles.field_tables`` writes them between the two marker lines of each page; a test says when it is due.
"""

import json
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from roles.gpu_health import rules as gpu_health
from roles.model_serving.model import Model
from roles.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"
_BEGIN = "<!-- made by `python -m roles.field_tables`: do not edit -->\n"
_END = "<!-- end of the table -->\n"


def table(fields: type[BaseModel], only: Container[str] | None = None) -> str:
    """A Markdown table: name, default, what may stand there, meaning. ``only``: the fields of one role."""
    schema = fields.model_json_schema()
    rows = ["| name | default | values | meaning |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        if only is not None and name not in only:
            continue
        default = "required" if name in schema.get("required", ()) else _default(field)
        rows.append(f"| `{name}` | {default} | {_values(field)} | {_cell(field['description'])} |")
    return "\n".join(rows) + "\n"


def checks() -> str:
    """A Markdown table of the health gate's findings."""
    rows = ["| finding | allowed | before a change | afterwards | remedy |", "|---|---|---|---|---|"]
    rows += [
        f"| `{check.name}` | {_cell(check.threshold)} | {check.before} | {check.after} | {_cell(check.remedy)} |"
        for check in gpu_health.CHECKS
    ]
    return "\n".join(rows) + "\n"


def _named(*beginnings: str) -> tuple[str, ...]:
    return tuple(name for name in Settings.model_fields if name.startswith(beginnings))


# The settings that each role takes, by its page.
ROLE_SETTINGS = {
    "base_system": ("http_proxy", "no_proxy", "dev_shm_mib", "limit_nofile"),
    "gateway": _named("gateway", "serve_port"),
    "gpu_health": ("gpus", "runtime", "metrics_dir", *_named("gpu_")),
    "model_serving": ("models_file", "remove_all", "dashboard_port", "serve_port", "serve_metrics_port", "cache_dir"),
    "nvidia_driver": _named("nvidia_", "min_free_gib_driver", "allow_reboot", "lab_skip_cuda_check"),
    "planner": ("plan_file", "gpus", "gpu_model", "gpu_memory_gib", "num_cpus", "runtime"),
    "preflight": _named("skip_unreachable", "disk_used_max_percent", "min_free_gib_", "ignore_drive_health"),
    "ray_cleanup": _named("ray_temp_dir", "clean_ray_", "metrics_dir"),
    "ray_cluster": (
        *_named("node_ip", "num_cpus", "gpus", "object_store_", "ray_temp_dir", "limit_"),
        *(
            name
            for name in Settings.model_fields
            if name.endswith(("_port", "_ports")) and not name.startswith("gateway_")
        ),
    ),
    "serving_runtime": (
        "runtime",
        *_named("runtime_wheelhouse", "runtime_index_", "runtime_cpu_", "http_proxy", "no_proxy"),
    ),
    "storage": _named(
        *("ray_temp_", "weights_dir", "cache_dir", "min_free_gib_", "cache_gib_per_model"),
        *("disk_used_max_percent", "ignore_drive_health"),
    ),
}
# What each page's table is made of: all fields of a model, or a text.
PAGES: dict[str, type[BaseModel] | str] = {}


def page(text: str, made: type[BaseModel] | str) -> str:
    """The page with its table made anew."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page needs the lines {_BEGIN.strip()} and {_END.strip()}")
    return f"{before}{begin}\n{made if isinstance(made, str) else table(made)}\n{end}{after}"


def _default(field: dict[str, Any]) -> str:
    return f"`{json.dumps(field['default'])}`" if "default" in field else "from `model_id`"


def _values(field: dict[str, Any]) -> str:
    return ", ".join(_value(option) for option in field.get("anyOf", [field]))


def _value(option: dict[str, Any]) -> str:
    if "enum" in option:
        return ", ".join(f"`{choice}`" for choice in option["enum"])
    kinds = {"null": "null", "boolean": "true, false", "array": "list", "object": "mapping", "string": "text"}
    kind = option.get("type", "")
    return kinds[kind] if kind in kinds else f"{'whole number' if kind == 'integer' else 'number'}{_limits(option)}"


def _limits(option: dict[str, Any]) -> str:
    words = {
        "minimum": "from {:,}",
        "exclusiveMinimum": "above {:,}",
        "maximum": "to {:,}",
    }
    limits = [text.format(option[key]).replace(",", " ") for key, text in words.items() if key in option]
    return f" {' '.join(limits)}" if limits else ""


def _cell(text: str) -> str:
    return re.sub(r"\|", r"\\|", text)


PAGES |= {
    "model-list.md": Model,
    "settings.md": Settings,
    **{f"roles/{role}.md": table(Settings, names) for role, names in ROLE_SETTINGS.items()},
}
PAGES["roles/gpu_health.md"] = f"{PAGES['roles/gpu_health.md']}\n{checks()}"

if __name__ == "__main__":
    for file_name, model in PAGES.items():
        target = DOCS / file_name
        target.write_text(page(target.read_text(encoding="utf-8"), model), encoding="utf-8")
        print(f"wrote {target}")
