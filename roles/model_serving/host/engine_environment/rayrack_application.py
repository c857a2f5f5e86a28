"""One model as a Serve application: the replicas of its engine and nothing else. Ray imports this on its nodes.

The stock ``ray.serve.llm:build_openai_app`` (2.60, direct streaming) puts an LLMRouter beside them: a Python process of
450 MB for each model and node, asked before every request whose turn it is. Without one, Serve's HAProxy picks the
replica by itself, the one with the fewest requests. docs/figures.md has what that gives.
"""

from typing import Any

from ray import serve
from ray.llm._internal.serve import constants
from ray.serve.deployment import Application
from ray.serve.llm import LLMServingArgs, build_llm_deployment
from ray.serve.llm.deployment import LLMServer

# Ray (2.60) would give the values of these variables, a hub's token, to the runtime environment of tasks that an engine
# starts: its agents write that to their logs and its state API shows it. sitecustomize has set them in every process.
constants.ENV_VARS_TO_PROPAGATE.clear()


class ServerWithSecrets(LLMServer):  # type: ignore[misc]  # Ray is not installed here
    """What makes a replica import this module: Ray's own class does not."""


def build(args: dict[str, Any]) -> Application:
    """The application of the one LLMConfig in ``args``, which are those of ``build_openai_app``."""
    (config,) = LLMServingArgs.model_validate(args).llm_configs
    # The class with its own ASGI application, vLLM's, made when the engine is up; the name is build_openai_app's.
    with_secrets = "RAYRACK_SECRETS" in (config.runtime_env or {}).get("env_vars", {})
    ingress = serve.ingress()(ServerWithSecrets if with_secrets else LLMServer)
    return build_llm_deployment(config, name_prefix="LLMServer:", deployment_cls=ingress)
