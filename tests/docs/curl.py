"""The curl lines of the documents, run as they stand: by curl itself, or read and sent without it."""

import json
import os
import re
import shlex
import shutil
import string
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITTEN_URL = "http://127.0.0.1:8000"
ANSWER_SECONDS = 40


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and the JSON under it."""

    status: int
    says: dict[str, Any]


Run = Callable[[str, Mapping[str, str]], Answer]


def by_curl(command: str, variables: Mapping[str, str]) -> Answer:
    """Run the line in a shell, unchanged; curl's own settings file has it tell the status too."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / ".curlrc").write_text('write-out = "\\n%{http_code}"\nnoproxy = "*"\n')
        done = subprocess.run(["sh", "-c", command], env={"PATH": os.environ["PATH"], "CURL_HOME": home, **variables},
                              capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return Answer(int(status), json.loads(body))


def by_reading(command: str, variables: Mapping[str, str]) -> Answer:
    """Read the line as curl would, and send what it says."""
    request = parsed(command, variables)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ANSWER_SECONDS) as response:
            return Answer(response.status, json.loads(response.read()))
    except urllib.error.HTTPError as refused:
        with refused:
            return Answer(refused.code, json.loads(refused.read()))


def parsed(command: str, variables: Mapping[str, str]) -> urllib.request.Request:
    """The request of a curl line. Knows only the options that the documents use, and fails at any other."""
    joined = re.sub(r"\\\n\s*", " ", string.Template(command).substitute(variables))
    words = iter(shlex.split(joined))
    assert next(words) == "curl"
    method, headers, body, urls = None, {}, None, []
    for word in words:
        match word:
            case "-s" | "-i":
                pass
            case "-X":
                method = next(words)
            case "-H":
                name, _, value = next(words).partition(":")
                headers[name] = value.strip()
            case "-d":
                body = next(words).encode()
            case _:
                assert not word.startswith("-"), word
                urls.append(word)
    (url,) = urls
    assert url.startswith("http://127.0.0.1"), url
    return urllib.request.Request(url, body, headers, method=method)  # noqa: S310  # loopback, as was just asserted


RUNS: Mapping[str, Run] = {"urllib": by_reading, **({"curl": by_curl} if shutil.which("curl") else {})}
"""How this machine can run such a line."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document."""

    language: str
    text: str


def blocks(document: str) -> list[Block]:
    """The fenced blocks of a document, in order."""
    return [Block(match[1], match[2]) for match in re.finditer(r"(?ms)^```(\w*)\n(.*?)^```$", document)]


def commands(block: Block) -> list[str]:
    """The commands of a block, each on one line, without comments."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    lines = [re.sub(r"(^|\s)#\s.*$", "", line).strip() for line in joined.splitlines()]
    return [line for line in lines if line]
