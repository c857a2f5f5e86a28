"""May this host serve? What its GPUs, their driver and the kernel's log say, and what to do about it."""
