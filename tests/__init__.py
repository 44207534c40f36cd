"""The tests, a package so that child processes can import `tests.support.workflows`."""
