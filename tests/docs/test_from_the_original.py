"""docs/from-the-original.md: whoever follows it with curl gets the answers that it shows."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.conftest import eventually
from tests.deploy.procfile_desk import ProcfileDesk
from tests.docs.curl import RUNS, WRITTEN_URL, Answer, Run, blocks, commands

TEXT = (Path(__file__).parents[2] / "docs" / "from-the-original.md").read_text()


class Example(NamedTuple):
    """A command, and the answer under it."""

    command: str
    answer: dict[str, Any]

    @property
    def status(self) -> set[int]:
        """What it must be answered with: a problem says it itself."""
        return {self.answer["status"]} if "type" in self.answer else {200, 202}


def _examples() -> list[Example]:
    found = blocks(TEXT)
    assert [block.language for block in found] == ["sh", "json"] * (len(found) // 2)
    return [Example(asked.text.strip(), json.loads(told.text))
            for asked, told in zip(found[::2], found[1::2], strict=True)]


EXAMPLES = _examples()


def shape(value: object) -> object:
    """What a value is made of; `null` is any scalar that is not there yet."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, bool):
        return value
    return "scalar" if value is None or isinstance(value, str) else type(value).__name__


def settled(answer: dict[str, Any]) -> dict[str, Any]:
    """A job changes by itself between two looks; that it is one is what counts."""
    return {name: value for name, value in answer.items() if name not in (
        "final", "mock_mode", "result", "attempts")} if answer.get("object") == "job" else answer


@pytest.fixture(scope="module")
def payment(mock_desk: ProcfileDesk) -> str:
    """The id that the first example gives, paid meanwhile, as it is for whoever reads on."""
    run = RUNS["urllib"]
    made = run(EXAMPLES[0].command.replace(WRITTEN_URL, mock_desk.url), {})
    given: str = made.says["payment_intent_id"]
    asked = f"curl -s '{mock_desk.url}/api/stripe/payment-status?payment_intent_id={given}'"
    eventually(lambda: run(asked, {}).says["status"] == "succeeded", "the mock's customer")
    return given


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
@pytest.mark.parametrize("example", EXAMPLES, ids=[commands(block)[0].split("/api/")[1].split(" ")[0].strip('"')
                                                   for block in blocks(TEXT)[::2]])
def test_an_example_is_answered_as_it_is_shown(mock_desk: ProcfileDesk, payment: str, run: Run,
                                               example: Example) -> None:
    answer: Answer = run(example.command.replace(WRITTEN_URL, mock_desk.url), {"PAYMENT": payment})
    assert answer.status in example.status, answer
    assert shape(settled(answer.says)) == shape(settled(example.answer))
    assert answer.says.get("status") in (example.answer.get("status"), "running", "succeeded")


def test_every_request_of_the_original_is_among_them() -> None:
    asked = {example.command.split("/api/stripe/")[1].split("?")[0].split(" ")[0] for example in EXAMPLES}
    assert asked == {"payment-intent", "payment-status", "stats", "create-payment", "create-customer",
                     "process-charge"}


def test_the_original_requests_are_in_it_word_for_word() -> None:
    for written in ("payment-intent?amount=10.00&email=customer@example.com&description=Payment",
                    "payment-status?payment_intent_id=pi_123456789", '"description": "Premium API Access"',
                    '"metadata": {"plan": "premium"}', '"phone": "+1234567890"', '"metadata": {"source": "api"}',
                    '"payment_method_id": "pm_123456789"', '"description": "Service Payment"', '"amount": 50.00'):
        assert written in TEXT


def test_the_files_that_it_names_exist() -> None:
    root = Path(__file__).parents[2]
    words = {word.strip("`,;.()[]") for word in TEXT.replace("](../", " ").split()}
    named = {word for word in words if word.startswith(("api/", "worker/", "shared/", "tests/")) and "." in word}
    assert len(named) > 8
    assert [name for name in sorted(named) if not (root / name).exists()] == []
