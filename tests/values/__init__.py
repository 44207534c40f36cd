"""Values: JSON and back, exactly, or a refusal by name."""
