"""Duplicates among all documents of a corpus: sketches (`minhash`), candidates that share a key of one and are verified
(`buckets`), and what belongs together, however far around (`clusters`). All is numbers of fixed size per document, on
disk (`columns`)."""
