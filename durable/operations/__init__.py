"""The durable operations beyond steps, one to a file. Each draws a key and leaves a row, as steps do."""
