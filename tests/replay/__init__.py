"""The core: keys, what a replay answers, divergence, and how failures are recorded. In process."""
