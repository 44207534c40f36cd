"""A real browser clicks through the panel in each front end."""
