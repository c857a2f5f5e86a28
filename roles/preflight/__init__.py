"""What is looked at on every host before anything on any host is changed."""
