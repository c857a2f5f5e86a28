"""An example to edit: one head and several workers with GPUs.

    pyinfra inventories/prod.py deploy/ --dry     # look
    pyinfra inventories/prod.py deploy/           # do

Host names must be reachable by SSH from here (your ~/.ssh/config is honoured), as root or as a user with sudo.
What may stand beside a host or in group_data: docs/settings.md.
"""

# The head runs Ray's control plane, Ray Serve's proxy and the gateway. With GPUs it serves models, too.
head = [
    ("gpu-01.example.com", {"gpus": 4, "gpu_model": "H100"}),
]

# One line per host. `gpus` is what Ray may use; `node_ip` is Ray's address on a host that has several.
workers = [
    ("gpu-02.example.com", {"gpus": 8, "gpu_model": "H100"}),
    ("gpu-03.example.com", {"gpus": 8, "gpu_model": "H100"}),
    # ("gpu-04.example.com", {"gpus": 8, "gpu_model": "H100", "node_ip": "10.0.0.4"}),
]

# What all of these hosts share; it outweighs group_data/all.py, and a value beside a host outweighs it.
rack = (
    [name for name, _ in head + workers],
    {
        "models_file": "inventories/models/prod.yaml",
        "ray_temp_dir": "/var/lib/rayrack/ray",
        # "keys_file": "inventories/keys/prod.yaml",
        # "secrets": {"hub.token": {"command": "pass show rack/hub"}},
        # "ssh_user": "ops",
        # "http_proxy": "http://proxy.example.com:3128",
        # "runtime_index_url": "https://packages.example.com/simple",
    },
)
