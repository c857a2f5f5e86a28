"""Secrets of the operator's: where they come from, and putting them on a host without showing them to anybody."""
