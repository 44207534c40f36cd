"""The command line: its output, and the processes it starts. It watches the engine as any observer can."""
