"""Structure labels: what part each token of a document plays in its code or its formulas, from real parses."""
