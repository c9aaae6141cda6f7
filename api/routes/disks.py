"""Free space of the disks that the lab writes to."""

from __future__ import annotations

from fastapi import APIRouter

from api.storage import current_disks
from ucurve.schemas.disks import DiskInfo

router = APIRouter(prefix="/v1", tags=["workers"])


@router.get("/disks", summary="List the lab's disks with their free space")
def list_disks() -> list[DiskInfo]:
    """The disks of artefacts and database, as far as the server sees them. Workers pause while one
    is full, and continue on their own.
    """
    return [
        DiskInfo(
            name=disk.name,
            state=disk.state,
            free_bytes=disk.free,
            total_bytes=disk.total,
            message=disk.message,
        )
        for disk in current_disks()
    ]
