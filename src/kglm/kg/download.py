"""Downloads over https: streamed, resumed after a break, and complete or refused."""

import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from kglm import __version__
from kglm.errors import InputError

ATTEMPTS = 5
TIMEOUT = 60  # seconds without a byte
PAUSE = 1.0  # seconds before the second attempt; doubles each time
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_BREAKS = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
_WORTH_ANOTHER_TRY = (408, 416, 429)


def shown(address: str) -> str:
    """An address without user, password, query and fragment, which may hold a token: what may be printed."""
    parts = urlsplit(address)
    if not parts.netloc:
        return address
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def download(address: str, target: Path) -> None:
    """Fetch `address` into `target`, going on where a connection broke; InputError when it stays broken.

    Plain http is refused, also after a redirection, except to this machine itself. A `${NAME}` is replaced by the
    environment variable NAME, which no message shows.
    """
    _refuse_unencrypted(address)
    address = _VARIABLE.sub(_variable, address)
    reason, tag = "", None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            with _OPENER.open(_request(address, target, tag), timeout=TIMEOUT) as response:
                tag = response.headers.get("ETag")
                missing = _receive(response, target)
            if not missing:
                return
            reason = f"cut short, {missing} bytes are missing"
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code < 500 and error.code not in _WORTH_ANOTHER_TRY:
                break
            if error.code == 416:
                target.unlink(missing_ok=True)
        except _BREAKS as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    target.unlink(missing_ok=True)
    raise InputError(f"download failed: {reason}")


def _variable(found: re.Match) -> str:
    if not (value := os.environ.get(found[1])):
        raise InputError(f"the environment variable {found[1]}, which its address names, is not set")
    return quote(value, safe="")


def _request(address: str, target: Path, tag: str | None) -> urllib.request.Request:
    headers = {"User-Agent": f"kglm/{__version__}", "Accept-Encoding": "identity"}
    # Without a tag a resumed file could be pieced together from two versions, and its sum may not be known.
    if tag and not tag.startswith("W/") and target.exists() and target.stat().st_size:
        headers |= {"Range": f"bytes={target.stat().st_size}-", "If-Range": tag}
    return urllib.request.Request(address, headers=headers)


def _receive(response: http.client.HTTPResponse, target: Path) -> int:
    """Write the body; the number of bytes that the server announced and did not send."""
    announced = response.headers.get("Content-Length")
    received = 0
    with open(target, "ab" if response.status == 206 else "wb") as sink:
        while block := response.read(1 << 20):
            sink.write(block)
            received += len(block)
    return int(announced) - received if announced is not None else 0


def _refuse_unencrypted(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise InputError(f"refused: {shown(address)} is no https address")


class _OnlyEncrypted(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, response, code, message, headers, address):
        _refuse_unencrypted(address)
        if urlsplit(request.full_url).scheme == "https" and urlsplit(address).scheme != "https":
            raise InputError(f"refused: redirected to {shown(address)}, which is no https address")
        return super().redirect_request(request, response, code, message, headers, address)


_OPENER = urllib.request.build_opener(_OnlyEncrypted)
