"""What all hosts of all inventories share. Every setting with its default: docs/settings.md."""

runtime = "cuda"

# The NVIDIA driver of hosts with a GPU. CUDA 13, which the runtime brings, needs branch 580 or newer.
nvidia_driver_version = "580.159.04"
