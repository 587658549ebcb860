"""The room that learns: data in, checkpoints out. It serves no HTTP and knows no database."""
