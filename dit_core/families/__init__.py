"""Published checkpoint families: each is a configuration plus a key map for the one transformer."""
