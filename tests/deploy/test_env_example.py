""".env.example: every setting, its default and why; a copy of it changes nothing."""

import re
from pathlib import Path

import pytest
from dotenv import dotenv_values
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from shared.jobs import Mode
from shared.settings import Settings
from tests.deploy import image

TEXT = (image.ROOT / ".env.example").read_text()


def variable(name: str, field: FieldInfo) -> str:
    """The environment variable of a setting; where it has several, the first."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return str(alias or name).upper()


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that sets nothing of ours."""
    monkeypatch.chdir(tmp_path)
    for name, field in Settings.model_fields.items():
        aliases = field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else []
        for known in (variable(name, field), *map(str, aliases)):
            monkeypatch.delenv(known, raising=False)


def test_it_has_every_setting_once_and_nothing_else() -> None:
    named = re.findall(r"^#?\s?([A-Z][A-Z_]+)=", TEXT, re.MULTILINE)
    assert sorted(named) == sorted(variable(name, field) for name, field in Settings.model_fields.items())


def test_each_setting_is_explained() -> None:
    lines = TEXT.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[A-Z_]+=", line):
            above = lines[number - 1]
            assert above.startswith("# "), line
            assert not above.startswith("# ---"), line
            assert len(above) > len("# a few words"), line


@pytest.mark.usefixtures("nothing_set")
def test_an_unchanged_copy_is_as_if_nothing_were_set(tmp_path: Path) -> None:
    before = Settings.load()
    (tmp_path / ".env").write_text(TEXT)
    after = Settings.load()
    assert after == before
    assert after.mode is Mode.NONE


def test_each_default_is_shown_as_it_is(tmp_path: Path) -> None:
    """An empty value means "not set"; whatever else stands there is the default itself."""
    (tmp_path / "copy").write_text(TEXT)
    given = dotenv_values(tmp_path / "copy")
    shown = {name for name, value in given.items() if value}
    for name, field in Settings.model_fields.items():
        default = field.default
        is_quiet = default is None or default is False or default == "" or isinstance(default, SecretStr)
        assert (variable(name, field) in shown) is not is_quiet, name


def test_nothing_in_it_looks_like_a_secret() -> None:
    assert not re.search(r"(?:sk|rk|pk)_(?:test|live)_\w|whsec_\w|pdk_\w|://[^\s/]*:[^\s/]*@", TEXT)
    given = re.findall(r"^(\w*(?:SECRET|PASSWORD|KEY)\w*)=(.*)$", TEXT, re.MULTILINE)
    assert len(given) >= 5
    assert all(value == "" for _, value in given)
