"""What the Dockerfile makes, told without Docker: the files that it copies out of a checkout, and how they run."""

import fnmatch
import json
import re
import shutil
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]


def instructions(name: str) -> list[str]:
    """The arguments of every such instruction of the Dockerfile's last stage, in order."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    last_stage = re.split(r"(?m)^FROM ", text)[-1]
    return [line.split(None, 1)[1] for line in last_stage.splitlines() if line.startswith(f"{name} ")]


def environment() -> dict[str, str]:
    """What the image sets, its PATH aside, which is of another machine."""
    pairs = (pair.split("=", 1) for line in instructions("ENV") for pair in line.split())
    return {name: value for name, value in pairs if name != "PATH"}


def command() -> list[str]:
    """What a container runs when nothing else is said."""
    (line,) = instructions("CMD")
    found: list[str] = json.loads(line)
    return found


def is_ignored(path: str, rules: list[str]) -> bool:
    """Whether .dockerignore keeps a file out of the build: the last rule counts that names it or a folder of it."""
    parents = [path, *map(str, PurePosixPath(path).parents)]
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!")
        names = [parent for parent in parents if parent != "."]
        anywhere = pattern.removeprefix("**/")
        if any(_fits(name, pattern) or (anywhere != pattern and _fits(PurePosixPath(name).name, anywhere))
               for name in names):
            ignored = not rule.startswith("!")
    return ignored


def _fits(name: str, pattern: str) -> bool:
    """A star stays within one part of a path."""
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)


def ignore_rules() -> list[str]:
    """The rules of .dockerignore."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def lay_out(checkout: Path, app: Path) -> list[str]:
    """Copy into `app` what the image holds of a checkout in /app; answers those files."""
    rules, copied = ignore_rules(), []
    for line in instructions("COPY"):
        *sources, target = line.split()
        if sources[0].startswith("--from="):
            continue
        for source in sources:
            found = checkout / source
            for file in sorted(found.rglob("*")) if found.is_dir() else [found]:
                if not file.is_file() or is_ignored(file.relative_to(checkout).as_posix(), rules):
                    continue
                inside = PurePosixPath(target) / (file.relative_to(found).as_posix() if found.is_dir() else file.name)
                (app / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, app / inside)
                copied.append(str(inside))
    return copied
