"""Values: how they become JSON text and come back exactly, and how exceptions do. Knows no workflow and no SQL."""
