"""The room that decides: who may do what, what is queued, what lies where. It loads no torch."""
