"""What a run starts from: the inventory's settings and the model list, checked before any host is changed."""
