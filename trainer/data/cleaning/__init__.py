"""The three passes of a clean job, each a function from complete folders to a complete folder.

    shard    some of the units -> their documents by all rules but those about duplicates, with sketches and facts
    buckets  the sketches of all shards -> which documents are duplicates of which
    merge    all of it -> the documents that stay, and the account of the rest

Run again, a pass gives the same bytes; a folder is there as a whole or not at all. What comes out depends on the number
of shards, which the spec says, and not on who ran which pass where.
"""
