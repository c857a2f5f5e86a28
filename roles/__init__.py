"""The roles: one package per thing rayrack installs on a host, named for that thing."""
