"""This machine as a whole rack: a single box with systemd, run as root or as a user with sudo.

    MODEL_ID=Qwen/Qwen2.5-0.5B-Instruct pyinfra inventories/local.py deploy/

No model list is set here, so MODELS_CONFIG or MODEL_ID say what is served, or `--data models_file=...`.
"""

head = [
    # A head without workers serves the models itself. Change `gpus` to what this machine has, or `runtime` to "cpu".
    ("@local", {"node_ip": "127.0.0.1", "gpus": 1}),
]
