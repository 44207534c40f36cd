"""Questions to a reader: predictions, recall, and verdicts on answers."""
