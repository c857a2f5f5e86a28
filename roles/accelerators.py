"""Ray's names of GPUs."""

from typing import Literal

# The NVIDIA names of ray.util.accelerators (Ray 2.60) that Ray detects by itself; ray.serve.llm refuses names it does
# not know.
GpuModel = Literal[
    "A10G",
    "A100",
    "B200",
    "B300",
    "GB200",
    "GB300",
    "H20",
    "H100",
    "H200",
    "K80",
    "L4",
    "L40S",
    "P4",
    "P100",
    "RTX-PRO-6000",
    "T4",
    "V100",
]
