"""The clock, the alarm, and workflows that are suspended while they wait."""
