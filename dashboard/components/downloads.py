"""Files that a page offers, made when they are asked for, at addresses that stay.

A page that draws itself again every second takes the file of `st.download_button` away under the click: each drawing gives
it another address and forgets the last. Here the address is made of the session and the key, and each drawing only renews
what will be made.
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

KEPT = 5_000  # offers of all sessions; the oldest are forgotten
SECRET = secrets.token_bytes(32)


@dataclass(frozen=True)
class Offer:
    """A file that is not made yet. `make` runs in a thread without a session."""

    make: Callable[[], bytes | str]
    name: str
    mime: str


offers: OrderedDict[str, Offer] = OrderedDict()
_lock = threading.Lock()


def offer(
    label: str,
    make: Callable[[], bytes | str],
    name: str,
    mime: str,
    key: str,
    framed: bool = False,
    help: str = "",
) -> None:
    """A link to the file; framed: it looks like a button. Whoever has the address may have the file: it cannot be guessed."""
    run = get_script_run_ctx()
    mine = hmac.new(SECRET, f"{run and run.session_id} {key}".encode(), hashlib.sha256).hexdigest()
    with _lock:
        offers[mine] = Offer(make, name, mime)
        offers.move_to_end(mine)
        while len(offers) > KEPT:
            offers.popitem(last=False)
    kind = "file framed" if framed else "file"
    st.html(
        f'<a class="{kind}" href="files/{mine}" download="{html.escape(name)}" title="{html.escape(help)}">'
        f'<span aria-hidden="true">&#8675;&#8201;</span>{html.escape(label)}</a>'
    )


def give(request: Request) -> Response:
    """GET /files/{address}; a plain function, so that it runs beside the event loop."""
    with _lock:
        found = offers.get(request.path_params["address"])
    if found is None:
        return PlainTextResponse(
            "This file is offered no more: open its page again and click there.", 404
        )
    try:
        content = found.make()
    except ClientError as error:
        return PlainTextResponse(f"The file could not be made: {error}", 503)
    disposition = f"attachment; filename*=UTF-8''{quote(found.name)}"
    return Response(
        content,
        media_type=found.mime,
        headers={"Content-Disposition": disposition, "Cache-Control": "no-store"},
    )


ROUTES = [Route("/files/{address}", give, methods=["GET"])]
