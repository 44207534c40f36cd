"""The dashboard: its data, its page and its commands."""
