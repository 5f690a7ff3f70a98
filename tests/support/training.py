"""The cases of the built-in families, with plots that are not drawn, for the conformance tests."""

from __future__ import annotations

from functools import partial

from nightshift.plugins import BUILTIN, offered_families
from nightshift.testing import attempts
from nightshift.testing.cases import Case
from shared.specs.families import FAMILIES
from tests.support import warm
from tests.support.unpainted import leave_plots_blank

#: One server for both frameworks, which all attempts of a test process are forked from.
SERVER = warm.server("training")

#: A family's `trial` is its row here.
CASES = {
    f"{family}-{framework}": Case.of(family, framework, server=SERVER, prepare=leave_plots_blank)
    for family in offered_families(BUILTIN)
    for framework in ("torch", "tensorflow")
    if framework in FAMILIES[family].frameworks
}

attempt = partial(attempts.attempt, server=SERVER, prepare=leave_plots_blank)
