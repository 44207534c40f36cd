"""The core: keys, the history, the life of a step and the replay rule. Knows no database and no operation."""
