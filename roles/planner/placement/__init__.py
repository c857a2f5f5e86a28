"""Which host each replica will stand on, decided as Ray decides. Pure: no pyinfra, no Ray."""
