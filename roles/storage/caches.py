"""Which models are still to fill a compile cache on a host. Pure: no pyinfra.

Nobody publishes how large the caches of vLLM, torch.compile, Triton, FlashInfer and CUDA become, and it changes with
the model, the GPU and each version. So room is kept for them, ``cache_gib_per_model``, until the model has a directory
there: from then on what it takes shows in how full the disk is.
"""

from collections.abc import Collection, Sequence

from roles.model_serving.model import Model
from roles.planner.placement.place import Host, can_run


def missing(models: Sequence[Model], host: Host, there: Collection[str]) -> list[str]:
    """Slugs of the models that could run on this host and have not compiled there yet.

    Args:
        there: the names in ``cache_dir``, one directory for each model that has.
    """
    return [model.slug for model in models if model.slug not in there and can_run(model, host)]
