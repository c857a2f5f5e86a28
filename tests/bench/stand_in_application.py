"""A Serve application without an engine in the place of ``rayrack_application``: what a model costs beside its engine.

Laid on the head as the package ``rayrack_application`` beside the module of that name, which Python then passes by and
no deploy sees. The deployment has the name that the models' units look for, and asks Ray for nothing.
"""

from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.deployment import Application

api = FastAPI()


@serve.ingress(api)
class StandIn:
    """Answers what the gateway and the warm-up request ask."""

    @api.get("/health")
    async def health(self) -> None:
        return None

    @api.post("/v1/completions")
    async def completions(self) -> dict[str, Any]:
        return {"object": "text_completion", "choices": [{"index": 0, "text": "!", "finish_reason": "length"}]}


def build(args: dict[str, Any]) -> Application:
    """The application of the one LLMConfig in ``args``; the models of this measurement have their name as slug."""
    (config,) = args["llm_configs"]
    name = f"LLMServer:{config['model_loading_config']['model_id']}"
    return serve.deployment(StandIn).options(name=name, ray_actor_options={"num_cpus": 0}).bind()
