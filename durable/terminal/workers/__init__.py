"""The commands that resume what other processes left: on a file, and with many workers on one PostgreSQL."""
