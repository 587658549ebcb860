"""How fast this machine trains and generates; `python -m benchmarks.speed`."""
