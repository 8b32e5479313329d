"""README.md: each of its commands runs, so that it cannot rot."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.deploy.procfile_desk import ProcfileDesk
from tests.docs.curl import RUNS, WRITTEN_URL, Run, blocks, commands

ROOT = Path(__file__).parents[2]
BLOCKS = blocks((ROOT / "README.md").read_text())
COMMANDS = [line for block in BLOCKS if block.language == "sh" for line in commands(block)]
CURLS = [line for line in COMMANDS if line.startswith("curl ")]
OTHERS = [line for line in COMMANDS if line not in CURLS]

ASKS_THE_DESK = {"charge", "jobs", "stats", "verify"}
"""Verbs that are run as they stand; any other is only asked for its help, for it would start or stop something."""
RUNS_ITSELF = "./paydesk test"
"""What runs this very test; asked for its help it would install the development packages."""


def test_the_readme_has_the_commands_that_one_begins_with() -> None:
    assert COMMANDS[:2] == ["./paydesk up", RUNS_ITSELF]
    assert CURLS
    assert "./paydesk verify" in COMMANDS


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
@pytest.mark.parametrize("line", CURLS)
def test_a_request_is_answered_as_the_readme_shows(mock_desk: ProcfileDesk, run: Run, line: str) -> None:
    answer = run(line.replace(WRITTEN_URL, mock_desk.url), {})
    assert answer.status in (200, 202), answer
    shown = [json.loads(block.text) for block in BLOCKS if block.language == "json"]
    if line == CURLS[0]:
        assert answer.says.keys() == shown[0].keys()
        assert {name: value for name, value in answer.says.items() if name != "payment_intent_id"} == {
            name: value for name, value in shown[0].items() if name != "payment_intent_id"}


@pytest.mark.parametrize("line", OTHERS)
def test_a_command_is_what_the_readme_says(mock_desk: ProcfileDesk, line: str) -> None:
    if line == RUNS_ITSELF:
        return
    program, *arguments = shlex.split(line)
    asks = program == "./paydesk" and arguments[0] in ASKS_THE_DESK
    environment = mock_desk.environment | {"PAYDESK_URL": mock_desk.url}
    done = subprocess.run([program, *arguments, *([] if asks else ["--help"])], cwd=ROOT, env=environment,
                          capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert asks or re.match(r"(?i)usage:", done.stdout), done.stdout
    if arguments[:1] == ["verify"]:
        assert done.stderr == "Everything adds up.\n"


def test_every_get_of_the_table_answers(mock_desk: ProcfileDesk) -> None:
    text = (ROOT / "README.md").read_text()
    addresses = re.findall(r"`GET (/[^`?]*)", text)
    assert {"/livez", "/openapi.json", "/api/stripe/stats"} <= set(addresses)
    for address in addresses:
        if "{" not in address and address != "/api/stripe/payment-intent":
            assert mock_desk.status(address) in (200, 422), address
