"""Real kills at every moment, and wrong engines that they catch."""
