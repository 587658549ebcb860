"""How well the cleaning rules do what they say, each on real texts whose truth is known."""
