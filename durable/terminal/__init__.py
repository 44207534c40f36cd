"""What the command line prints, and what it starts. It watches the engine as any observer can."""
