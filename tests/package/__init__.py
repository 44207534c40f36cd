"""The package as a whole: its import, its types, its README, its examples."""
