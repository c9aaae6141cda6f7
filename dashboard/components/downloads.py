"""Downloads that are made on request, at addresses that stay the same.

`st.download_button` takes its file away when the page is redrawn, which happens every second:
each drawing gives it another address. Here the address depends on the session and the key,
and each drawing only updates how the file will be made.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import streamlit as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from streamlit.runtime.scriptrunner import get_script_run_ctx

from ucurve.client import ClientError

MAX_DOWNLOADS = 5_000  # of all sessions; the oldest are dropped
SECRET = secrets.token_bytes(32)


@dataclass(frozen=True)
class Download:
    """A file that is not made yet. `make` runs in a thread without a session."""

    make: Callable[[], bytes | str]
    name: str
    mime: str


downloads: OrderedDict[str, Download] = OrderedDict()
_lock = threading.Lock()


def download_link(
    label: str,
    make: Callable[[], bytes | str],
    name: str,
    mime: str,
    key: str,
    framed: bool = False,
    help: str = "",
) -> None:
    """Draw a link to the file; framed: as a button.

    Access needs only the address, which cannot be guessed.
    """
    run = get_script_run_ctx()
    session = f"{run and run.session_id} {key}".encode()
    address = hmac.new(SECRET, session, hashlib.sha256).hexdigest()
    with _lock:
        downloads[address] = Download(make, name, mime)
        downloads.move_to_end(address)
        while len(downloads) > MAX_DOWNLOADS:
            downloads.popitem(last=False)
    style = "file framed" if framed else "file"
    st.html(
        f'<a class="{style}" href="files/{address}" download="{html.escape(name)}" '
        f'title="{html.escape(help)}">'
        f'<span aria-hidden="true">&#8675;&#8201;</span>{html.escape(label)}</a>'
    )


def send_file(request: Request) -> Response:
    """Answer GET /files/{address}; not async, so that it runs in a thread."""
    with _lock:
        download = downloads.get(request.path_params["address"])
    if download is None:
        return PlainTextResponse(
            "This download has expired. Open its page again and click there.", 404
        )
    try:
        content = download.make()
    except ClientError as error:
        return PlainTextResponse(f"The file cannot be created: {error}", 503)
    disposition = f"attachment; filename*=UTF-8''{quote(download.name)}"
    return Response(
        content,
        media_type=download.mime,
        headers={"Content-Disposition": disposition, "Cache-Control": "no-store"},
    )


ROUTES = [Route("/files/{address}", send_file, methods=["GET"])]
