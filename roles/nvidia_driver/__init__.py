"""The NVIDIA driver of exactly one version: packages, holds, blacklist, fabric manager, reboot."""
