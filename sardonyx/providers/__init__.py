"""Ways to run nodes, found through entry points."""
