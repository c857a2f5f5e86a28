"""What rayrack costs, measured on the lab: ``python -m tests.bench`` (``make bench``)."""
