"""What `make` runs: the supervisor of the five processes, the demo's HTTP client, the browser of the tests."""
