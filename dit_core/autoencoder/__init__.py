"""Set up by its writer."""
