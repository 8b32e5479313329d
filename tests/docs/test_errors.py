"""docs/errors.md: every code that the desk can give, once, with the status that it really has."""

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import pytest

import cli.main  # noqa: F401  # loads every verb, and with it every fault of the command line
import drill.run  # noqa: F401  # loaded by its verb only when it runs
from api import problems
from cli.main import EXIT_CODES, EXIT_FAILED
from shared.errors import PaydeskError

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "errors.md").read_text()

GIVES_CODE = {"Problem": 0, "_refused": 0, "refuse": 0, "job_error": 0, "Refused": 0, "Declined": 0, "Decline": 0,
              "_park": 2}
"""Who makes an error, and which argument is its code."""
CODE = re.compile(r"[a-z]+(?:_[a-z]+)*")


class Row(NamedTuple):
    """A row of the page."""

    section: str
    status: int
    meaning: str
    again: str


def _rows() -> Iterator[tuple[str, Row]]:
    section = ""
    for line in TEXT.splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| `"):
            code, status, meaning, again = (cell.strip() for cell in line.strip("|").split("|"))
            yield code.strip("`"), Row(section, int(status), meaning, again)


DOCUMENTED = list(_rows())
ROWS = dict(DOCUMENTED)
COMMAND_LINE = "On the command line"
OVER_HTTP = {code: row for code, row in ROWS.items() if row.section != COMMAND_LINE}


def _constants(tree: ast.Module) -> dict[str, str]:
    return {target.id: node.value.value for node in tree.body if isinstance(node, ast.Assign)
            for target in node.targets if isinstance(target, ast.Name)
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)}


def _codes_in(file: Path) -> Iterator[str]:
    """The codes that a module gives: texts in the place of a code, and in `{"code": …}`."""
    tree = ast.parse(file.read_text())
    constants = _constants(tree)
    places: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in GIVES_CODE and len(node.args) > GIVES_CODE[name]:
                places.append(node.args[GIVES_CODE[name]])
        elif isinstance(node, ast.Dict):
            places += [value for key, value in zip(node.keys, node.values, strict=True)
                       if isinstance(key, ast.Constant) and key.value == "code"]
    for place in places:
        yield from _texts(place, constants)


def _texts(place: ast.expr, constants: dict[str, str]) -> Iterator[str]:
    """Each text that an expression can be; what it takes out of something else is that one's."""
    match place:
        case ast.Constant(value=str(text)):
            yield text
        case ast.Name(id=name) if name in constants:
            yield constants[name]
        case ast.BoolOp(values=values):
            for value in values:
                yield from _texts(value, constants)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _texts(body, constants)
            yield from _texts(orelse, constants)


def _given() -> dict[str, set[str]]:
    """Every code that the code names, and where."""
    found: dict[str, set[str]] = {}
    for package in ("api", "worker", "shared"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for code in _codes_in(file):
                if CODE.fullmatch(code):
                    found.setdefault(code, set()).add(file.name)
    for file in sorted((ROOT / "shared" / "lua").glob("*.lua")):
        text = file.read_text()
        for code in re.findall(r"park\(id, job, '(\w+)'|'error_code', '(\w+)'|code = '(\w+)'", text):
            found.setdefault("".join(code), set()).add(file.name)
    return found


GIVEN = _given()


def _faults(kind: type[PaydeskError]) -> Iterator[type[PaydeskError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _faults(below)


COMMAND_LINE_FAULTS = [kind for kind in _faults(PaydeskError)
                       if kind.__module__.startswith(("cli.", "drill.")) or kind.code == "settings_refused"]


def test_no_code_stands_twice() -> None:
    assert len(ROWS) == len(DOCUMENTED)


def test_the_code_is_searched_well() -> None:
    """One of each way in which an error is made, so that a search that finds nothing is noticed."""
    for code, file in (("method_not_allowed", "main.py"), ("email_invalid", "requests.py"), ("canceled", "answers.py"),
                       ("outcome_unknown", "attempt.py"), ("stripe_auth_failed", "stripe_processor.py"),
                       ("idempotency_mismatch", "attempt.py"), ("expired_card", "mock_processor.py"),
                       ("poison", "claim.lua"), ("lease_ended", "feed.lua"), ("stripe_refused", "stripe_processor.py")):
        assert file in GIVEN.get(code, set()), code


def test_every_code_is_documented_and_no_other() -> None:
    expected = problems.TABLE.keys() | GIVEN.keys()
    assert OVER_HTTP.keys() - expected == set(), "documented, but nobody gives them"
    assert expected - OVER_HTTP.keys() == set(), "given, but not documented"


@pytest.mark.parametrize("code", sorted(OVER_HTTP))
def test_a_code_has_the_status_that_is_written(code: str) -> None:
    row = OVER_HTTP[code]
    if row.section == "A job ended without its result":
        assert row.status == problems.failure_meaning({"code": code}).status
    elif code in problems.TABLE:
        assert row.status == problems.TABLE[code].status
    else:
        assert row.status == HTTPStatus.ACCEPTED
        assert row.section in ("A job is not done yet", "A human must look")


def test_every_fault_with_a_code_is_on_the_page() -> None:
    assert {kind.code for kind in _faults(PaydeskError)} <= ROWS.keys()


def test_the_command_lines_faults_end_with_the_exit_code_that_is_written() -> None:
    expected = {kind.code: next((code for known, code in EXIT_CODES.items() if issubclass(kind, known)), EXIT_FAILED)
                for kind in COMMAND_LINE_FAULTS}
    assert {code: row.status for code, row in ROWS.items() if row.section == COMMAND_LINE} == expected


def test_each_row_says_what_it_means_and_what_helps() -> None:
    for code, row in ROWS.items():
        assert len(row.meaning) > 10, code
        assert row.again.startswith(("yes", "no", "under a new key", "only after", "once", "as that")), code
        if row.status == HTTPStatus.SERVICE_UNAVAILABLE:
            assert row.again.startswith(("yes", "only after")), code
