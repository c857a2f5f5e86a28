"""What a run will do to models and hosts, told by the rules that decide at execution."""
