"""Where pip comes from on a machine that has none: one pinned wheel, checked before it runs. Standard library only."""

import base64
import hashlib
import html
import re
import ssl
import urllib.request
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

WHEEL = "pip-26.3-py3-none-any.whl"
WHEEL_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
DEFAULT_INDEX = "https://pypi.org/simple"
"""pip's own default, which pip would know; here there is no pip yet."""
SYSTEM_WHEELS = Path("/usr/share/python-wheels")
"""Where Debian keeps the wheels that its own Python bundles."""
TIMEOUT_SECONDS = 15
UNREACHABLE = ("The package index cannot be reached: connect to the network, or name one within reach in "
               "PIP_INDEX_URL (or a folder of wheels in PIP_FIND_LINKS).")
UNTRUSTED = "The package index's certificate is not trusted here: set PIP_CERT to the certificate authority to trust."


class PipUnavailable(Exception):
    """No pip can be had; the message is the one sentence for the user."""


class Options(Protocol):
    """pip's configuration on this machine."""

    def get(self, name: str) -> str:
        """An option's value, "" when nothing sets it."""


def pinned_pip(folder: Path, options: Options) -> Path:
    """Return a pip wheel to run from: kept in `folder`, from this machine, or fetched. Raises PipUnavailable."""
    kept = folder / WHEEL
    if _is_pinned(kept):
        return kept
    for place in options.get("find-links").split():
        found = Path(place.removeprefix("file://")) / WHEEL
        if _is_pinned(found):
            return found
    for found in sorted(SYSTEM_WHEELS.glob("pip-*.whl")):
        return found
    content = _fetch(options)
    if hashlib.sha256(content).hexdigest() != WHEEL_SHA256:
        raise PipUnavailable("The pip that the package index offers differs from its locked hash, so it was not run.")
    draft = kept.with_suffix(".draft")
    draft.write_bytes(content)
    return draft.rename(kept)


def _is_pinned(wheel: Path) -> bool:
    return wheel.is_file() and hashlib.sha256(wheel.read_bytes()).hexdigest() == WHEEL_SHA256


def _fetch(options: Options) -> bytes:
    index = options.get("index-url") or DEFAULT_INDEX
    page_url = index.rstrip("/") + "/pip/"
    try:
        page = _read(page_url, options).decode()
        for link in re.findall(r"""href=["']([^"']+)["']""", page):
            target = urljoin(page_url, html.unescape(link))
            if unquote(urlsplit(target).path).endswith("/" + WHEEL):
                return _read(target, options)
    except ssl.SSLError:
        raise PipUnavailable(UNTRUSTED) from None
    except HTTPError as answer:
        raise PipUnavailable(f"The package index answered {answer.code} when asked for pip: look at "
                             "PIP_INDEX_URL.") from None
    except (URLError, OSError, ValueError) as failed:
        untrusted = isinstance(getattr(failed, "reason", None), ssl.SSLError)
        raise PipUnavailable(UNTRUSTED if untrusted else UNREACHABLE) from None
    raise PipUnavailable(f"The package index does not offer {WHEEL}; install your system's python3-venv instead.")


def _read(url: str, options: Options) -> bytes:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http", "file"):
        raise ValueError(url)
    # urllib does not take a name and password from the address, as pip does.
    host = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)))  # noqa: S310  # checked above
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    context = ssl.create_default_context(cafile=options.get("cert") or None)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS, context=context) as answer:  # noqa: S310  # checked above
        content: bytes = answer.read()
    return content
