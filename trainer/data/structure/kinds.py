"""The closed sets of structure labels. The numbers are what a dataset stores: new kinds go to the end."""

from enum import IntEnum

NONE = -1  # no label: blank space, what did not parse, text that is neither code nor science


class CodeKind(IntEnum):
    """What a leaf of a program's syntax tree is; a name by what it does there."""

    KEYWORD = 0  # def, return, if …
    OPERATOR = 1  # + == and in := …
    DELIMITER = 2  # brackets, commas, colons, dots
    FUNCTION = 3  # the name of a function where it is defined
    CLASS = 4  # the name of a class where it is defined
    PARAMETER = 5  # a parameter where it is declared
    ARGUMENT = 6  # the name of a keyword argument
    CALL = 7  # the name of what is called or decorates
    ATTRIBUTE = 8  # a name after a dot that is not called
    VARIABLE = 9  # any other name
    MODULE = 10  # a name that is imported, or imported from
    TYPE = 11  # a name in an annotation
    STRING = 12
    NUMBER = 13
    CONSTANT = 14  # True, False, None, …
    COMMENT = 15


class LatexKind(IntEnum):
    """What a character of a formula is; letters and digits by where they stand."""

    TEXT = 0  # prose outside of formulas, and words inside them
    COMMAND = 1  # a command that takes arguments: \\frac, \\sqrt, \\mathbb
    SYMBOL = 2  # a command that stands for a sign: \\alpha, \\infty
    OPERATOR = 3  # + - * / \\cdot \\times
    RELATION = 4  # = < > \\le \\in \\to
    BIG_OPERATOR = 5  # \\sum \\int \\prod \\lim
    FUNCTION = 6  # \\sin \\log \\det
    ARGUMENT = 7  # a letter or digit in a command's argument
    SUBSCRIPT = 8
    SUPERSCRIPT = 9
    ENVIRONMENT = 10  # \\begin{…} and \\end{…}
    DELIMITER = 11  # $ \\[ brackets of any kind, \\left \\right
    SEPARATOR = 12  # , ; & \\\\ \\quad
    VARIABLE = 13  # any other letter
    NUMBER = 14  # any other digit
    COMMENT = 15


CODE_KINDS = tuple(kind.name.lower() for kind in CodeKind)
LATEX_KINDS = tuple(kind.name.lower() for kind in LatexKind)
