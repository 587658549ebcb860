"""Documents of one domain: picked by rules, or by a classifier that is trained on examples and measured."""
