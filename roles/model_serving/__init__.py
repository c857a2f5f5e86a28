"""The models: the list an operator writes, one settings file and one systemd unit for each model of it."""
