"""Decides before anything is changed: what will fit, and what a run will restart. Pure, but for facts.py."""
