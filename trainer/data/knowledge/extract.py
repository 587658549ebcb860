"""The relations of a record, by what kind of document it is."""

from pathlib import PurePosixPath

from trainer.data.knowledge.code_relations import GRAMMARS, code_relations
from trainer.data.knowledge.latex_relations import is_latex, latex_relations
from trainer.data.knowledge.python_relations import python_relations
from trainer.data.knowledge.text_relations import definitions, text_relations
from trainer.data.knowledge.triples import Relation, Triple, Unreadable
from trainer.spec import Record

LONGEST_CODE = 2_000_000  # characters: a syntax tree takes hundreds of times the memory of its text


def extract(record: Record) -> list[Triple]:
    """The triples of one document.

    Raises:
        Unreadable: it is code that does not parse, is too long, or is of a language that there is no grammar of.
    """
    relations = _of_code(record) if record.domain == "code" else _of_text(record)
    return [Triple(**relation._asdict(), document=record.id, source=record.source) for relation in relations]


def title_of(record: Record) -> str:
    """What a document is called: its title, path or address, else its id."""
    named = (record.meta.get(name) for name in ("title", "path", "url"))
    return next((str(name) for name in named if name), record.id)


def _of_code(record: Record) -> list[Relation]:
    if len(record.text) > LONGEST_CODE:
        raise Unreadable("code is too long to parse")
    path = PurePosixPath(str(record.meta.get("path", "")))
    module = ".".join(path.with_suffix("").parts) if path.name and "row" not in record.meta else record.id
    if record.language == "python":
        is_package = path.name == "__init__.py"
        return python_relations(record.text, module.removesuffix(".__init__"), is_package)
    if record.language in GRAMMARS:
        return code_relations(record.text, record.language, module)
    raise Unreadable(f"no grammar of {record.language or 'unnamed'} code")


def _of_text(record: Record) -> list[Relation]:
    title = title_of(record)
    if is_latex(record.text):
        return latex_relations(record.text, title) + definitions(record.text, record.language)
    return text_relations(record.text, title, record.language)
