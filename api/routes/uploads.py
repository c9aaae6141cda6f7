"""Upload a text or a file of examples, to be registered as a dataset.

POST /v1/uploads?suffix=tsv    the bytes of the file -> {"file": "upload:SHA256.tsv"}
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from api.auth.authorization import Submitter
from api.errors import ApiError
from ucurve.registry.roots import UPLOADS
from ucurve.schemas.catalogue import MAX_UPLOAD_BYTES, UPLOAD, UploadedFile
from ucurve.settings import settings

router = APIRouter(prefix="/v1", tags=["datasets"])

PARTIAL = ".partial-"
ABANDONED_SECONDS = 86_400.0  # after this a file that a killed process left is deleted
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/uploads", status_code=201, summary="Upload a file", openapi_extra=BODY)
async def upload(
    request: Request,
    user: Submitter,
    suffix: Annotated[
        Literal["txt", "tsv", "csv", "jsonl", "json", "parquet"],
        Query(description="Format of the file."),
    ] = "txt",
    packing: Annotated[
        Literal["gz", "zst", "bz2", "xz"] | None, Query(description="How it is compressed.")
    ] = None,
) -> UploadedFile:
    """Store the body under its SHA-256; name the returned `file` where a dataset takes a path."""
    folder = settings().artefacts / UPLOADS
    await run_in_threadpool(_make_room, folder)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=PARTIAL)
    partial, digest, size = Path(name), hashlib.sha256(), 0
    try:
        with os.fdopen(descriptor, "wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_UPLOAD_BYTES:
                    raise ApiError(413, _too_large())
                digest.update(chunk)
                await run_in_threadpool(file.write, chunk)
            await run_in_threadpool(_flush, file.fileno())
        stored = f"{digest.hexdigest()}.{suffix}" + (f".{packing}" if packing else "")
        partial.chmod(0o644)
        partial.replace(folder / stored)
    finally:
        partial.unlink(missing_ok=True)
    return UploadedFile(file=f"{UPLOAD}{stored}", size_bytes=size)


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)


def _too_large() -> str:
    return (
        f"The file is larger than {MAX_UPLOAD_BYTES // 2**20} MiB: an admin puts it below a folder "
        "of UCURVE_MODELS, where it is registered by its path."
    )


def _make_room(folder: Path) -> None:
    """Create the folder, delete what killed processes left, and refuse where it is full."""
    folder.mkdir(parents=True, exist_ok=True)
    total = 0
    for entry in os.scandir(folder):
        state = entry.stat(follow_symlinks=False)
        if entry.name.startswith(PARTIAL) and time.time() - state.st_mtime > ABANDONED_SECONDS:
            Path(entry.path).unlink(missing_ok=True)
        else:
            total += state.st_size
    if total >= settings().uploads_gb * 1e9:
        raise ApiError(
            413,
            f"Uploaded files take the {settings().uploads_gb:g} GB that UCURVE_UPLOADS_GB allows: "
            f"an admin raises it, or deletes files of {folder}.",
        )
