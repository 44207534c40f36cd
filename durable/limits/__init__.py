"""Limits: what `@step` may ask for beyond a plain call: retries, a timeout, a process of its own."""
