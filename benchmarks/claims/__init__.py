"""One file an experiment, named claim_NN_what.py, each with a `CLAIM`; `python -m benchmarks.claims` runs them."""
