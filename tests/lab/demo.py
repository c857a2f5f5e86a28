"""`make demo`: two blank hosts, the deploy an operator would type, and what answers afterwards. Safe to repeat."""

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence

import openai

from roles.model_serving import model_list
from roles.model_serving.list_source import Source
from roles.model_serving.model import Model
from tests.lab.entrance import Entrance, open_gateway
from tests.lab.lab import INVENTORY, LAB_SH, ROOT, Lab, LabError, program

MODELS = "inventories/models/lab.yaml"
UNIT_PROPERTIES = "Id,ActiveState,SubState,StatusText"
MAX_TOKENS = 12
# More, as an engine that is quicker than its reader puts several into one piece.
STREAMED_TOKENS = 24


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their widest cell."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for number, line in enumerate(lines):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))


def live(command: Sequence[str], lab: Lab) -> None:
    """Run a command with its output as it comes."""
    code = subprocess.run(command, cwd=ROOT, env=lab.environment, stdin=subprocess.DEVNULL, check=False).returncode
    if code:
        raise LabError(f"{' '.join(command)}: exit code {code}; the reason stands above")


def host_rows(lab: Lab, roles: dict[str, str]) -> Iterable[tuple[str, ...]]:
    question = (
        '. /etc/os-release; echo "$PRETTY_NAME"; uptime -p; '
        "systemctl is-system-running; readlink /opt/rayrack/current | xargs basename | cut -c1-12"
    )
    for host, role in roles.items():
        system, uptime, state, runtime = lab.ssh(host, f"{question}; true").stdout.splitlines()
        yield host, lab.address(host), role, system, uptime, state, runtime


def unit_rows(lab: Lab, host: str) -> Iterable[tuple[str, ...]]:
    shown = lab.read(host, f"systemctl show --property={UNIT_PROPERTIES} 'rayrack*.service' 'rayrack.target'")
    units = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.split("\n\n")]
    for unit in sorted(units, key=lambda unit: unit["Id"]):
        yield host, unit["Id"], f"{unit['ActiveState']} ({unit['SubState']})", unit.get("StatusText", "")


def model_rows(models: Iterable[Model], listed: set[str]) -> Iterable[tuple[str, ...]]:
    for model in models:
        answers = "yes" if model.model_id in listed else "not yet"
        yield model.model_id, model.runner, model.route_prefix, f"rayrack-model@{model.slug}", answers


def show_rack(lab: Lab, models: Sequence[Model], client: openai.OpenAI) -> None:
    heading("Hosts")
    table(
        ("host", "address", "role", "system", "uptime", "systemd", "runtime"),
        host_rows(lab, {"h1": "head", "h2": "worker"}),
    )
    heading("Units")
    table(("host", "unit", "state", "status"), [row for host in ("h1", "h2") for row in unit_rows(lab, host)])
    heading("Models")
    listed = {model.id for model in client.models.list()}
    table(("model", "runner", "base_url path", "unit on the head", "answers"), model_rows(models, listed))


def show_answers(models: Sequence[Model], client: openai.OpenAI) -> None:
    heading(f"Answers of {client.base_url}")
    print("  GET /v1/models ->", ", ".join(sorted(model.id for model in client.models.list())))
    question = "What do you see?"
    generating = [model.model_id for model in models if model.runner == "generate"]
    print(f"\n  chat completions, asked: {question}")
    for name in generating:
        started = time.monotonic()
        answer = client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": question}], max_tokens=MAX_TOKENS
        )
        took = time.monotonic() - started
        print(f"  {name}: {(answer.choices[0].message.content or '').strip()}  ({took:.2f} s)")

    print("\n  streamed, token by token:")
    print(f"  {generating[0]}:", end="", flush=True)
    stream = client.chat.completions.create(
        model=generating[0], messages=[{"role": "user", "content": question}], max_tokens=STREAMED_TOKENS, stream=True
    )
    for chunk in stream:
        if text := chunk.choices[0].delta.content:
            print(text, end=" |", flush=True)

    embedding_model = next(model.model_id for model in models if model.runner == "pooling")
    vector = client.embeddings.create(model=embedding_model, input="a red cat").data[0].embedding
    print(f"\n\n  an embedding of 'a red cat' from {embedding_model}, {len(vector)} numbers:")
    print("  [" + ", ".join(f"{number:.3f}" for number in vector[:8]) + ", ...]")


def show_what_next(lab: Lab, entrance: Entrance) -> None:
    heading("Go on")
    ask = json.dumps({"model": "tiny-a", "prompt": "Once upon a time", "max_tokens": MAX_TOKENS})
    print("  ask a model     with the API key `demo`, which was made for this demo and opens nothing else:")
    print(f"                  curl --noproxy '*' --cacert {entrance.certificate} {entrance.url}/v1/completions \\")
    print(f"                    -H 'Authorization: Bearer {entrance.key}' \\")
    print(f"                    -H 'Content-Type: application/json' -d '{ask}'")
    print("  make a key      tests/lab/lab.sh ssh h1 /opt/rayrack/bin/api_keys make NAME")
    # The inventory finds the default lab by itself.
    where = "" if lab == Lab() else f"LAB_DIR={lab.directory} LAB_NET={lab.net} "
    print("  look            tests/lab/lab.sh ssh h1 systemctl status 'rayrack-*'")
    print(f"  change a model  edit {MODELS}, then")
    print(f"                  {where}.venv/bin/pyinfra {INVENTORY} deploy/")
    print("  tear down       make lab-down")


def main() -> None:
    lab = Lab.from_environment()
    heading("Two blank hosts")
    live([str(LAB_SH), "up", "2"], lab)
    heading(f"pyinfra {INVENTORY} deploy/ -y")
    live([program("pyinfra"), INVENTORY, "deploy/", "-y"], lab)
    models = model_list.load(Source("file", str(ROOT / MODELS)))
    entrance = open_gateway(lab, key_name="demo", again=True)
    client = entrance.client(timeout_s=60)
    show_rack(lab, models, client)
    show_answers(models, client)
    show_what_next(lab, entrance)


if __name__ == "__main__":
    try:
        main()
    except (LabError, openai.OpenAIError) as error:
        sys.exit(f"demo: {error}")
