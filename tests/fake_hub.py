"""A fake hub on localhost: refs, file metadata, and files with ranges and redirects."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = (".safetensors", ".bin", ".parquet")  # kept as LFS files, as the hub does


class FakeHub:
    """repositories: {"models/owner/name": {branch: {file name: bytes}}}.

    cut: bytes after which the next download breaks off.
    ranges: whether parts of files are sent, or always all of them.
    """

    def __init__(
        self, repositories: dict[str, dict[str, dict[str, bytes]]], ranges: bool = True
    ) -> None:
        self.ranges = ranges
        self.repositories, self.requests, self.cut, self.delay = repositories, [], None, 0.0
        self.commits = {
            hashlib.sha1(f"{repo}@{branch}".encode()).hexdigest(): (repo, branch)
            for repo in repositories
            for branch in repositories[repo]
        }

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        kind, _, rest = (
            path.removeprefix("/api/").partition("/") if path.startswith("/api/") else ("", "", "")
        )
        if rest.endswith("/refs"):
            branches = self.repositories.get(f"{kind}/{rest.removesuffix('/refs')}")
            if branches is None:
                return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
            commits = {
                branch: commit
                for commit, (repo, branch) in self.commits.items()
                if repo == f"{kind}/{rest[:-5]}"
            }
            refs = [
                {"name": b, "ref": f"refs/heads/{b}", "targetCommit": commits[b]} for b in branches
            ]
            return 200, {}, json.dumps({"branches": refs, "tags": [], "converts": []}).encode()
        if "/revision/" in rest:
            repo, _, commit = rest.partition("/revision/")
            known, branch = self.commits[commit.split("?")[0]]
            siblings = [
                described(name, data) for name, data in self.repositories[known][branch].items()
            ]
            return (
                200,
                {},
                json.dumps(
                    {"id": repo, "sha": commit.split("?")[0], "siblings": siblings}
                ).encode(),
            )
        if path.startswith("/cdn/"):  # where the hub keeps large files
            commit, _, name = path.removeprefix("/cdn/").partition("/")
            repo, branch = self.commits[commit]
            return 200, {"X-Repo-Commit": commit}, self.repositories[repo][branch][name]
        _, _, place = path.partition("/resolve/")
        return (302, {"Location": f"/cdn/{place}"}, b"") if place else (404, {}, b"{}")


def described(name: str, data: bytes) -> dict[str, object]:
    """A file in the hub's metadata."""
    blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
    lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return {"rfilename": name, "size": len(data), "blobId": blob} | (
        {"lfs": lfs} if name.endswith(LARGE) else {}
    )


@contextmanager
def serving(hub: FakeHub) -> Iterator[str]:
    """The hub's address while it runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.requests.append((self.path, self.headers.get("Range")))
            status, headers, body = hub.answer(self.path)
            if status == 200 and hub.ranges and (asked := self.headers.get("Range")):
                start, _, last = asked.removeprefix("bytes=").partition("-")
                first, end = int(start), min(int(last or len(body)) + 1, len(body))
                status = 206
                headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(body)}"
                body = body[first:end]
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(key, value)
            self.end_headers()
            time.sleep(hub.delay if self.path.startswith("/cdn/") else 0)
            if self.path.startswith("/cdn/") and hub.cut is not None:
                body, hub.cut = body[: hub.cut], None
                self.close_connection = True
            try:
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):  # who asked has read enough
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
