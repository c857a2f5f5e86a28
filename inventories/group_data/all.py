"""What all hosts of all inventories share. Every setting with its default: docs/settings.md."""

runtime = "cuda"
