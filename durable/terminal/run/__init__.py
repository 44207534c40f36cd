"""`durable run`: the function it names, the lines it prints, and its exit code."""
