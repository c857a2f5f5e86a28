"""Disposable hosts on one machine, and what is done with them: the demo and the lab tests."""
