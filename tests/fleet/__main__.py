"""Runs the kill test and prints its figures: python -m tests.fleet."""

from tests.fleet.kill_test import main

if __name__ == "__main__":
    main()
