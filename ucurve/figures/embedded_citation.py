"""A citation inside a figure's file: SVG metadata, PNG text, PDF information, a CSV column.

In Vega-Lite it is in `usermeta`, which every renderer keeps and none reads.

content = marked(content, "png", citation)
citation_in(content)                           # the same citation again
"""

from __future__ import annotations

import csv
import io
import json
import re
import struct
import zlib
from html import escape, unescape

from ucurve.csv_cells import plain_row
from ucurve.figures.citation import Citation
from ucurve.figures.files import Form

PNG = b"\x89PNG\r\n\x1a\n"
COLUMN = "cite"


class UnmarkedError(ValueError):
    """The file carries no citation; the message says so."""


def marked(content: bytes, form: Form, citation: Citation) -> bytes:
    """Return the file with the citation in it."""
    return {"svg": _in_svg, "png": _in_png, "pdf": _in_pdf, "json": _in_json, "csv": _in_csv}[form](
        content, citation
    )


def citation_in(content: bytes) -> Citation:
    """Return the citation in a file. Raises UnmarkedError when there is none."""
    if content.startswith(PNG):
        text = next((text for key, text in _png_texts(content) if key == "ucurve"), None)
    elif content.startswith(b"%PDF"):
        hexed = re.findall(rb"/Ucurve <FEFF([0-9A-F]*)>", content)
        text = bytes.fromhex(hexed[-1].decode()).decode("utf-16-be") if hexed else None
    elif b"<svg" in content[:1000]:
        inside = re.search(rb'<metadata id="ucurve">(.*?)</metadata>', content, re.DOTALL)
        text = unescape(inside[1].decode()) if inside else None
    elif content.startswith(b"{"):
        text = _json_citation(content)
    else:
        return _csv_citation(content)
    if text is None:
        raise UnmarkedError("this file has no citation: it was made without a lab, or edited since")
    return Citation.model_validate_json(text)


def _in_svg(content: bytes, citation: Citation) -> bytes:
    text = content.decode()
    start = text.index(">", text.index("<svg")) + 1
    metadata = (
        f"<title>{escape(citation.title)}</title>"
        f"<desc>{escape(f'{citation.caption} {citation.line}')}</desc>"
        f'<metadata id="ucurve">{escape(citation.model_dump_json())}</metadata>'
    )
    return (text[:start] + metadata + text[start:]).encode()


def _in_png(content: bytes, citation: Citation) -> bytes:
    """Return the file with iTXt chunks after the header chunk, which is 25 bytes long."""
    texts = {
        "Title": citation.title,
        "Description": citation.caption,
        "Source": citation.line,
        "ucurve": citation.model_dump_json(),
    }
    chunks = b"".join(
        _chunk(b"iTXt", key.encode() + b"\0\0\0\0\0" + text.encode()) for key, text in texts.items()
    )
    end = len(PNG) + 25
    return content[:end] + chunks + content[end:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_texts(content: bytes) -> list[tuple[str, str]]:
    texts, at = [], len(PNG)
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        if content[at + 4 : at + 8] == b"iTXt":
            key, _, rest = content[at + 8 : at + 8 + length].partition(b"\0")
            texts.append((key.decode("latin-1"), rest[2:].split(b"\0", 2)[2].decode()))
        at += 12 + length
    return texts


def _in_pdf(content: bytes, citation: Citation) -> bytes:
    """Return the PDF with an incremental update (ISO 32000, 7.5.6).

    It adds the document information as a further object, with its own cross-reference table.
    """
    trailer = content[content.rindex(b"trailer") :]
    (start,) = re.findall(rb"startxref\s+(\d+)", trailer)
    (size,) = re.findall(rb"/Size\s+(\d+)", trailer)
    (root,) = re.findall(rb"/Root\s+(\d+ \d+ R)", trailer)
    texts = {
        "Title": citation.title,
        "Subject": f"{citation.caption} {citation.line}",
        "Creator": f"ucurve {citation.version}",
        "Ucurve": citation.model_dump_json(),
    }
    lines = b"\n".join(
        b"/%s <FEFF%s>" % (k.encode(), v.encode("utf-16-be").hex().upper().encode())
        for k, v in texts.items()
    )
    content = content.rstrip(b"\n") + b"\n"
    at, number = len(content), int(size)
    info = b"%d 0 obj\n<<\n%s\n>>\nendobj\n" % (number, lines)
    table = b"xref\n%d 1\n%010d 00000 n \n" % (number, at)
    end = b"trailer\n<< /Size %d /Root %s /Info %d 0 R /Prev %s >>\nstartxref\n%d\n%%%%EOF\n"
    return content + info + table + end % (number + 1, root, number, start, at + len(info))


def _in_json(content: bytes, citation: Citation) -> bytes:
    chart = json.loads(content)
    chart["usermeta"] = {**chart.get("usermeta", {}), "ucurve": citation.model_dump(mode="json")}
    return f"{json.dumps(chart, indent=1)}\n".encode()


def _json_citation(content: bytes) -> str | None:
    try:
        meta = json.loads(content).get("usermeta") or {}
    except ValueError:
        return None
    return json.dumps(meta["ucurve"]) if "ucurve" in meta else None


def _in_csv(content: bytes, citation: Citation) -> bytes:
    """Return the table with one more column, which names the source of each row."""
    rows = list(csv.reader(io.StringIO(content.decode())))
    if len(rows) == 1:  # of a figure with nothing to draw yet: a row for the citation alone
        rows.append([""] * len(rows[0]))
    text = io.StringIO()
    csv.writer(text).writerows(
        plain_row([*row, COLUMN if i == 0 else citation.uri]) for i, row in enumerate(rows)
    )
    return text.getvalue().encode()


def _csv_citation(content: bytes) -> Citation:
    try:
        first = next(csv.DictReader(io.StringIO(content.decode())), {})
        return Citation.from_uri(first.get(COLUMN) or "")
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise UnmarkedError(
            "this file has no citation: it is not an SVG, PNG, PDF, Vega-Lite or CSV file that "
            "ucurve wrote"
        ) from error
