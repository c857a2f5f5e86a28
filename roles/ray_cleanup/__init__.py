"""Removes the sessions that Ray leaves in its temporary directory."""
