"""Cleaning rules, each with one signature: a document goes in, and comes out as it is, changed, or not at all."""

from trainer.data.rules.document import Document as Document
from trainer.data.rules.document import Rule as Rule
from trainer.data.rules.engine import RuleEngine as RuleEngine
from trainer.data.rules.order import default_rules as default_rules
