"""A pytest plugin for the copy of the tree: writes down how each test ended, and where the code came from that ran."""

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

TOLD = "PLANTS_TOLD"
"""Names the variable with the file to which each failure is written, one JSON line each."""
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"api", "worker", "shared", "cli", "standin", "bench", "tests"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None],
                              ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell of each phase of a test that failed, and of each that passed its call."""
    report = yield
    if report.failed or (report.when == "call" and report.passed):
        error = call.excinfo.value if call.excinfo else None
        _tell({"test": item.nodeid, "passed": report.passed, "asserted": error is not None and _asserts(error),
               "error": f"{type(error).__name__}: {error}"[:400]})
    return report


def pytest_sessionfinish() -> None:
    """Tell which modules of the product did not come from the copy: none may."""
    modules = [(name, getattr(module, "__file__", None)) for name, module in sys.modules.items()
               if name.partition(".")[0] in PACKAGES]
    _tell({"strayed": [name for name, file in modules if file and not Path(file).resolve().is_relative_to(ROOT)]})


def _asserts(error: BaseException) -> bool:
    """Whether a check said no; a test that ran out of time, or fell over, has caught nothing."""
    if isinstance(error, BaseExceptionGroup):
        return all(_asserts(each) for each in error.exceptions)
    if isinstance(error, pytest.fail.Exception):
        return not str(error).startswith("Timeout")
    return isinstance(error, AssertionError)


def _tell(fact: dict[str, Any]) -> None:
    with Path(os.environ[TOLD]).open("a") as told:
        told.write(json.dumps(fact) + "\n")
