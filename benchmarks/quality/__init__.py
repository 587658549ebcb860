"""How right the data part's judgements are, on labelled data that the user gives."""
