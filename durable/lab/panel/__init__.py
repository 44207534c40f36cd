"""The panel: one workflow to step through, crash and resume. The controller decides, the widget shows."""
