"""The disks: room for Ray's files, the runtime and the weights, and the directories on them."""
