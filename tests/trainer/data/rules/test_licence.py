"""Licences are found where files say them, and expressions mean what SPDX says."""

import pytest

from tests.trainer.data.rules.documents import document, passed
from trainer.data.rules.licence import CodeLicence, find_licence, is_allowed
from trainer.job_settings import PERMISSIVE

CODE = "import os\n\nprint(os.name)\n"
MIT = "# Permission is hereby granted, free of charge, to any person obtaining a copy\n# of this software\n"
GPL = "/* This program is free software under the terms of the GNU General\n * Public License, either version 3 */\n"


@pytest.mark.parametrize(
    ("header", "licence"),
    [
        ("# SPDX-License-Identifier: Apache-2.0\n", "Apache-2.0"),
        ("/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */\n", "(MIT OR GPL-2.0-only)"),
        ("# Licensed under the Apache License, Version 2.0 (the License)\n", "Apache-2.0"),
        (MIT, "MIT"),
        (GPL, "GPL"),
        ("Licensed to PSF under a Contributor Agreement.\n", "PSF-2.0"),
        ("GNU Lesser General Public License\n", "LGPL"),
        ("Redistribution and use in source and binary forms, with or without modification\n", "BSD-2-Clause"),
        ("", None),
        ("A licence is a thing to have.\n", None),
    ],
)
def test_the_licence_of_a_header(header: str, licence: str | None) -> None:
    assert find_licence(header + CODE) == licence


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT AND ISC", True),
        ("GPL-3.0-only AND (MIT OR ISC)", False),
        ("(GPL-3.0-only OR MIT) AND (ISC OR Proprietary)", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("", False),
        ("OR", False),
        ("((((", False),
    ],
)
def test_expressions(expression: str, allowed: bool) -> None:
    assert is_allowed(expression, frozenset({"mit", "isc", "apache-2.0"})) is allowed


def test_code_under_other_licences_is_dropped_and_the_licence_is_kept_with_the_rest() -> None:
    rule = CodeLicence(PERMISSIVE)
    assert rule.apply(document(GPL + CODE, "code")) is None
    assert rule.apply(document(GPL + CODE)), "a text about licences is no code"
    assert passed(rule.apply(document(MIT + CODE, "code"))).record.meta["license"] == "MIT"
    assert "license" not in passed(rule.apply(document(CODE, "code"))).record.meta


def test_what_the_source_says_comes_before_what_the_file_says() -> None:
    rule = CodeLicence(PERMISSIVE)
    for stated, kept in (("MIT", True), ("GPL-3.0-or-later", False)):
        with_licence = document(MIT + CODE, "code").changed(meta={"license": stated})
        assert (rule.apply(with_licence) is not None) is kept
