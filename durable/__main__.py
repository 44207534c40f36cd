"""`python -m durable` is the command `durable`."""

from durable.terminal.cli import main

if __name__ == "__main__":
    main()
