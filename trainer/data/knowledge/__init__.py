"""The knowledge store: a passage index for retrieval, and a graph of triples, each with its source."""

from trainer.data.knowledge.index import Hit as Hit
from trainer.data.knowledge.index import Passage as Passage
from trainer.data.knowledge.store import Counts as Counts
from trainer.data.knowledge.store import KnowledgeStore as KnowledgeStore
from trainer.data.knowledge.store import build as build
from trainer.data.knowledge.triples import Triple as Triple
