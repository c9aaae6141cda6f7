"""The tensors of a file of weights on the hub, from the few bytes that describe them."""

from __future__ import annotations

import io
from collections.abc import Mapping

import httpx

from ucurve.registry.hub_cache import HubUnreachableError, RemoteFile
from ucurve.registry.tensors.model_files import (
    MAX_HEADER_BYTES,
    RegistrationError,
    Tensor,
    parse_header,
)
from ucurve.registry.tensors.pickled_tensors import pickled_tensors

BLOCK = 1 << 18


def remote_tensors(file: RemoteFile, headers: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors by name of a remote file of weights; none where they cannot be read.

    A server that sends no parts of files leaves the tables of pickles unread: they lie at the end.
    Raises RegistrationError and HubUnreachableError.
    """
    try:
        if file.name.endswith(".safetensors"):
            return _header(file, headers)
        with RangedFile(file, headers) as ranged, io.BufferedReader(ranged, BLOCK) as buffered:
            return pickled_tensors(buffered, file.name, positions=False)
    except NoRangesError:
        return {}
    except httpx.HTTPError as error:
        raise HubUnreachableError(f"{file.name}: {error}") from error


def _header(file: RemoteFile, headers: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors by name, from the first bytes of a safetensors file."""
    head = b""
    with httpx.stream(
        "GET", file.url, headers=headers, follow_redirects=True, timeout=30.0
    ) as response:
        response.raise_for_status()
        for chunk in response.iter_raw(1 << 16):
            head += chunk
            length = int.from_bytes(head[:8], "little")
            if length > MAX_HEADER_BYTES:
                raise RegistrationError(f"{file.name} is not a safetensors file")
            if len(head) >= 8 + length:
                return parse_header(head[8 : 8 + length])
    raise RegistrationError(f"{file.name} ends before its header does")


class NoRangesError(RuntimeError):
    """The server sends whole files only."""


class RangedFile(io.RawIOBase):
    """A remote file of which the parts that are read are requested, and kept."""

    def __init__(self, file: RemoteFile, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._file, self._headers, self._at = file, headers, 0
        self._blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read from any position: yes."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another position and return it."""
        self._at = offset + (0, self._at, self._file.size)[whence]
        if self._at < 0:
            raise ValueError("a position before the beginning")
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed: any buffer
        """Read at most to the end of a block."""
        number, offset = divmod(self._at, BLOCK)
        if number not in self._blocks and self._at < self._file.size:
            self._blocks[number] = self._requested(number * BLOCK)
        part = self._blocks.get(number, b"")[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def _requested(self, start: int) -> bytes:
        end = min(start + BLOCK, self._file.size)
        headers = {**self._headers, "Range": f"bytes={start}-{end - 1}"}
        with httpx.stream(
            "GET", self._file.url, headers=headers, follow_redirects=True, timeout=30.0
        ) as response:
            response.raise_for_status()
            if response.status_code != 206:
                raise NoRangesError(self._file.name)
            content = b""
            for chunk in response.iter_raw(BLOCK):
                content += chunk
                if len(content) >= end - start:
                    break
        if len(content) < end - start:
            raise HubUnreachableError(f"{self._file.name} stopped at {start + len(content):,}")
        return content[: end - start]
