"""Draw which room imports which: boxes on floors, an arrow from the importer to what it imports.

    python docs/import_map.py docs/images/imports.svg
    git worktree add /tmp/old v0.1 && python docs/import_map.py old.svg --root /tmp/old

A room is a package or single module at the top of `ucurve/`, or one of the services. Imports
inside functions count, those for type checkers only do not. A room stands above all that it
imports; arrows that would run upwards are red.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

SERVICES = ("api", "worker", "dashboard", "db")
BOX, GAP, FLOOR, MARGIN = (150, 44), 20, 96, 24  # pixels


def rooms(root: Path) -> dict[str, list[Path]]:
    """Python files of each room, without migrations."""
    files = {name: sorted((root / name).rglob("*.py")) for name in SERVICES}
    for entry in sorted((root / "ucurve").iterdir()):
        if entry.suffix == ".py" and entry.name != "__init__.py":
            files[f"ucurve.{entry.stem}"] = [entry]
        elif entry.is_dir() and any(entry.glob("*.py")):
            files[f"ucurve.{entry.name}"] = sorted(entry.rglob("*.py"))
    return {
        room: [path for path in paths if "migrations" not in path.parts]
        for room, paths in files.items()
    }


def modules(tree: ast.Module) -> Iterator[str]:
    """Dotted names that a file imports, of `from a import b` both a and a.b."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for part in node.body
        for inner in ast.walk(part)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(files: dict[str, list[Path]]) -> Counter[tuple[str, str]]:
    """(importing room, imported room) -> how many imports."""
    counts: Counter[tuple[str, str]] = Counter()
    for room, paths in files.items():
        for path in paths:
            for module in modules(ast.parse(path.read_text(encoding="utf-8"))):
                parts = module.split(".")
                target = parts[0] if parts[0] in SERVICES else ".".join(parts[:2])
                if target in files and target != room:
                    counts[room, target] += 1
    return counts


def floors(names: list[str], counts: Counter[tuple[str, str]]) -> dict[str, int]:
    """Floor of each room, 0 at the bottom. Of rooms that import one another, the one that imports
    the other more often is above."""
    down = {
        (a, b)
        for (a, b), num in counts.items()
        if num > counts.get((b, a), 0) or (num == counts.get((b, a), 0) and a < b)
    }
    floor = dict.fromkeys(names, 0)
    for _ in names:
        for a, b in down:
            floor[a] = max(floor[a], min(floor[b] + 1, len(names)))
    return floor


def svg(files: dict[str, list[Path]]) -> str:
    """The drawing."""
    counts = arrows(files)
    floor = floors(list(files), counts)
    levels = {level: number for number, level in enumerate(sorted(set(floor.values())))}
    rows: dict[int, list[str]] = defaultdict(list)
    for room in sorted(files):
        rows[levels[floor[room]]].append(room)
    width = max(len(row) for row in rows.values()) * (BOX[0] + GAP) + 2 * MARGIN
    height = len(rows) * FLOOR + 2 * MARGIN
    place = {
        room: (
            width / 2 + (number - (len(row) - 1) / 2) * (BOX[0] + GAP),
            height - MARGIN - FLOOR / 2 - level * FLOOR,
        )
        for level, row in rows.items()
        for number, room in enumerate(row)
    }
    upward = sum(floor[a] <= floor[b] for a, b in counts)
    title = f"{len(files)} rooms on {len(rows)} floors, {len(counts)} arrows, {upward} upward"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="13">',
        f"<title>{title}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{MARGIN}" y="{MARGIN}" fill="#555">{title}</text>',
    ]
    for (a, b), num in sorted(counts.items()):
        (x1, y1), (x2, y2) = place[a], place[b]
        color = "#b8c4d6" if floor[a] > floor[b] else "#d33"
        parts.append(
            f'<line x1="{x1:.0f}" y1="{y1 + BOX[1] / 2:.0f}" x2="{x2:.0f}" '
            f'y2="{y2 - BOX[1] / 2:.0f}" stroke="{color}" '
            f'stroke-width="{min(1 + num / 12, 5):.1f}"/>'
        )
    for room, (x, y) in place.items():
        lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files[room])
        num = f"{len(files[room])} file{'s' * (len(files[room]) > 1)}"
        parts.append(
            f'<rect x="{x - BOX[0] / 2:.0f}" y="{y - BOX[1] / 2:.0f}" width="{BOX[0]}" '
            f'height="{BOX[1]}" rx="6" fill="#eef3fb" stroke="#5b7db1"/>'
            f'<text x="{x:.0f}" y="{y - 3:.0f}" text-anchor="middle">{escape(room)}</text>'
            f'<text x="{x:.0f}" y="{y + 14:.0f}" text-anchor="middle" fill="#777" font-size="11">'
            f"{num}, {lines:,} lines</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    args = parser.parse_args()
    args.output.write_text(svg(rooms(args.root)), encoding="utf-8")
