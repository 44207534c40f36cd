"""Views of what is recorded: tables, timelines, and the bars of progress."""
