"""The slug of a model: its name made safe for a systemd instance, a file name and a URL, all at once."""

import re

SLUG_PATTERN = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
SLUG_MAX = 128

# systemctl completes a name without a unit suffix with .service, so that `systemctl status rayrack-model@x.service`
# would never reach the model of the slug `x.service` (systemd.unit(5)).
_UNIT_SUFFIXES = (
    ".service",
    ".socket",
    ".device",
    ".mount",
    ".automount",
    ".swap",
    ".target",
    ".path",
    ".timer",
    ".slice",
    ".scope",
)


def derive(model_id: str) -> str:
    """``Qwen/Qwen2.5-32B-Instruct`` -> ``qwen-qwen2.5-32b-instruct``. ``problem`` says whether the result will do."""
    return re.sub(r"[^a-z0-9._-]+", "-", model_id.lower()).strip("._-")


def problem(slug: str) -> str | None:
    """Why ``slug`` cannot name a unit, a file and a URL; None when it can."""
    if not re.fullmatch(SLUG_PATTERN, slug) or len(slug) > SLUG_MAX:
        return (
            f"must be 1 to {SLUG_MAX} of a-z, 0-9, '.', '_' and '-', beginning and ending with a letter or digit: "
            "it names a systemd unit, files and a URL"
        )
    if slug.endswith(".override"):
        return "must not end in .override: <slug>.override.env is the name of an override file"
    for suffix in _UNIT_SUFFIXES:
        if slug.endswith(suffix):
            return f"must not end in {suffix}: systemctl would take rayrack-model@{slug} for another unit"
    return None
