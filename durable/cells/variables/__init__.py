"""The variables of a cell as plain data, with what they share, and back again."""
