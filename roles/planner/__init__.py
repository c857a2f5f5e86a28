"""The planner: what a run would do, and whether it can work, before any host is changed. Pure: no pyinfra, no Ray."""
