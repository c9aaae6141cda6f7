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
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import streamlit as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from ucurve.client import ClientError

MAX_DOWNLOADS = 5_000  # of all sessions; the oldest are dropped
SWEEP_INTERVAL = 15.0  # seconds
MAX_ABSENCE = 120.0  # seconds; after them Streamlit itself forgets a session without a browser
SECRET = secrets.token_bytes(32)


@dataclass(frozen=True)
class Download:
    """A file that is not made yet. `make` runs in a thread without a session."""

    make: Callable[[], bytes | str]
    name: str
    mime: str
    session: str


downloads: OrderedDict[str, Download] = OrderedDict()
_absent: dict[str, float] = {}  # sessions without a browser, and since when
_swept = 0.0
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
    session = run.session_id if run else ""
    address = hmac.new(SECRET, f"{session} {key}".encode(), hashlib.sha256).hexdigest()
    with _lock:
        drop_of_ended_sessions(time.monotonic())
        downloads[address] = Download(make, name, mime, session)
        downloads.move_to_end(address)
        while len(downloads) > MAX_DOWNLOADS:
            downloads.popitem(last=False)
    style = "file framed" if framed else "file"
    st.html(
        f'<a class="{style}" href="files/{address}" download="{html.escape(name)}" '
        f'title="{html.escape(help)}">'
        f'<span aria-hidden="true">&#8675;&#8201;</span>{html.escape(label)}</a>'
    )


def drop_of_ended_sessions(now: float) -> None:
    """Drop downloads of closed pages: each holds all rows and figures that it is made from.

    A session that lost its connection is kept for a while: Streamlit resumes it without drawing
    the page again, so its links must go on working.
    """
    global _swept
    if now < _swept + SWEEP_INTERVAL or not runtime.exists():
        return
    _swept, server = now, runtime.get_instance()
    sessions = {download.session for download in downloads.values()}
    absent = {session for session in sessions if not server.is_active_session(session)}
    since = {session: _absent.get(session, now) for session in absent}
    _absent.clear()
    _absent.update(since)
    ended = {session for session, start in since.items() if now >= start + MAX_ABSENCE}
    for address, download in list(downloads.items()):
        if download.session in ended:
            del downloads[address]


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
