"""`ucurve restore`: a lab from a backup, complete or not at all.

All hashes are verified before anything is written. A data folder is made under another name and
renamed when it is complete; an external database is filled in one transaction.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ucurve.formatting import file_size
from ucurve.lab import table_copy
from ucurve.lab.backup import SECRET
from ucurve.lab.backup_file import (
    CHUNK,
    BackupFileError,
    Manifest,
    Progress,
    members,
    reading,
    sync_folder,
    verify,
)
from ucurve.lab.data_folder import EmbeddedError
from ucurve.lab.embedded import Engines
from ucurve.lab.installation import (
    DEFAULT_DATA,
    Installation,
    database_errors,
    external,
    is_external,
    known_revisions,
    of_engines,
)
from ucurve.settings import variable

if TYPE_CHECKING:
    from ucurve.lab.table_copy import Session

ROOM = 3.0  # tables with indexes per compressed byte, as an estimate


def restore_backup(source: Path, data: Path | None, progress: Progress) -> Manifest:
    """Make a lab of a backup in an empty place; return its manifest.

    Raises:
        BackupFileError: the file is not a complete backup, or the place is not empty.
        EmbeddedError: the database cannot be started or reached.
    """
    if is_external(data):
        lab = external()
        _check_database(lab)
        manifest = _verified(source, progress)
        _write_files(source, lab, manifest, progress)
        _drop_empty_tables(lab)
        _fill(source, lab, manifest, progress)
        return manifest
    with _new_folder((data or DEFAULT_DATA).expanduser().resolve()) as new:
        manifest = _verified(source, progress)
        _check_space(new.data.parent, manifest)
        with new as engines:
            lab = of_engines(engines)
            _write_files(source, lab, manifest, progress)
            _fill(source, lab, manifest, progress)
    return manifest


def _verified(source: Path, progress: Progress) -> Manifest:
    """Return the manifest of a complete backup whose schema this ucurve can create."""
    manifest = verify(source, progress)
    revisions = known_revisions()
    if revisions and manifest.revision not in revisions:
        raise BackupFileError(
            f"{source} has schema revision {manifest.revision}, which this ucurve does not know: "
            f"install ucurve {manifest.ucurve} or newer"
        )
    return manifest


@contextmanager
def _new_folder(target: Path) -> Iterator[Engines]:
    """Yield engines, not started, whose folder takes the target's place if all goes well."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupFileError(f"{target} is not empty: name an empty or new folder with --data")
    if target.is_mount():
        raise BackupFileError(f"{target} is a mount point: name a new folder below it with --data")
    folder = target.with_name(f"{target.name}.restoring")
    engines = Engines(folder)
    engines.lock()  # InUseError names another restore into it
    try:
        for leftover in folder.iterdir():  # of a killed restore
            if leftover.name != "lock":
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        yield engines
        (folder / "lock").unlink(missing_ok=True)
        os.sync()  # the database has synced its own files, not the artefacts
        folder.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise BackupFileError(f"cannot restore into {target}: {error.strerror}") from error
    finally:
        engines.unlock()
        shutil.rmtree(folder, ignore_errors=True)


def _check_database(lab: Installation) -> None:
    """Raise BackupFileError unless the external database has no tables, or empty ones of a lab."""
    with lab.connect() as session:
        names = table_copy.tables(session)
        filled = [name for name in names if table_copy.count(session, name)]
        ours = not names or table_copy.revision(session) in known_revisions()
    if filled or not ours:
        raise BackupFileError(
            f"the database of UCURVE_DATABASE_URL is not empty ({', '.join(filled or names)}): "
            "create an empty one"
        )


def _drop_empty_tables(lab: Installation) -> None:
    """Drop what migrations made in an external database that was never used.

    They may be those of a newer revision than the backup's.
    """
    _check_database(lab)
    with lab.connect() as session:
        names = [*table_copy.tables(session), table_copy.REVISION]
        session.execute(f"DROP TABLE IF EXISTS {', '.join(map(table_copy.quoted, names))}".encode())
        functions = session.execute(
            "SELECT oid::regprocedure::text FROM pg_proc f "
            "WHERE pronamespace = 'public'::regnamespace AND NOT EXISTS "
            "(SELECT FROM pg_depend d WHERE d.objid = f.oid AND d.deptype = 'e')"
        ).fetchall()
        for (name,) in functions:  # of triggers; those of extensions stay
            session.execute(f"DROP ROUTINE {name}".encode())


def _check_space(folder: Path, manifest: Manifest) -> None:
    sizes = {name: entry.size for name, entry in manifest.files.items()}
    tables = sum(size for name, size in sizes.items() if name.startswith("tables/"))
    needed = sum(sizes.values()) + int(ROOM * tables)
    if needed > (free := shutil.disk_usage(folder).free):
        raise BackupFileError(
            f"{folder} has {file_size(free)} free and the lab needs about {file_size(needed)}: "
            "name another folder with --data"
        )


def _write_files(source: Path, lab: Installation, manifest: Manifest, progress: Progress) -> None:
    """Write the artefacts and the key of the webhooks; equal files may exist."""
    targets = {
        name: lab.artefacts / name.removeprefix("artefacts/")
        for name in manifest.files
        if name.startswith("artefacts/")
    }
    if secret := lab.webhook_secret:
        targets[SECRET] = secret
    for name, path in targets.items():
        if path.exists() and name in manifest.files and _sha256(path) != _of(manifest, name):
            raise BackupFileError(f"{path} exists with another content: use an empty folder")
    lab.artefacts.mkdir(parents=True, exist_ok=True)
    total, done = sum(manifest.files[name].size for name in targets if name in manifest.files), 0
    with reading(source):
        for member, file in members(source):
            if target := targets.get(member.name):
                _write_file(file, target, _of(manifest, member.name), member.name == SECRET)
                done += member.size
                progress("artefacts (MB)", done // 1_000_000, total // 1_000_000)


def _write_file(source: IO[bytes], target: Path, sha256: str, secret: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.restoring")
    digest = hashlib.sha256()
    partial.unlink(missing_ok=True)  # of a killed restore
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != sha256:
        raise BackupFileError(f"{target.name} changed while it was read: use another backup")
    partial.chmod(0o600 if secret else 0o644)
    partial.replace(target)


def _of(manifest: Manifest, name: str) -> str:
    return manifest.files[name].sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fill(source: Path, lab: Installation, manifest: Manifest, progress: Progress) -> None:
    """Create the schema of the backup and load its rows in one transaction."""
    _migrate(lab, manifest.revision)
    with lab.connect() as session, database_errors("the restore, nothing was kept"):
        table_copy.prepare(session)
        order = table_copy.tables(session)
        _check_schema(session, order, manifest)
        session.execute(f"TRUNCATE {', '.join(map(table_copy.quoted, order))}".encode())
        with reading(source), tarfile.open(source, "r:") as archive:
            for name in order:
                _load(session, archive, name, manifest, progress)
        for name, last in manifest.sequences.items():
            session.execute(  # that of a table left out does not exist
                "SELECT setval(s, %s) FROM to_regclass(%s) s WHERE s IS NOT NULL",
                [last, f"public.{table_copy.quoted(name)}"],
            )
        for name in order:
            _compare(session, name, manifest, progress)
        session.commit()
        session.autocommit = True
        session.execute("ANALYZE")


def _migrate(lab: Installation, revision: str) -> None:
    """Bring an empty database to the revision of the backup."""
    done = subprocess.run(
        [sys.executable, "-m", "db.migrate", "--to", revision],
        env={**os.environ, variable("database_url"): lab.database_url},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        # SQLAlchemy ends its messages with the statement and a link.
        reasons = [line for line in lines if line and not line.startswith(("(", "[", " "))]
        raise BackupFileError(f"cannot create the tables: {(reasons or ['unknown'])[-1]}")


def _check_schema(session: Session, order: list[str], manifest: Manifest) -> None:
    for name in order:
        entry = manifest.tables.get(name)
        if entry is None or entry.columns != table_copy.columns(session, name):
            raise BackupFileError(
                f"the table {name} of the backup is not that of revision {manifest.revision}: "
                "restore it with the version of ucurve that wrote it"
            )


def _load(
    session: Session, archive: tarfile.TarFile, name: str, manifest: Manifest, progress: Progress
) -> None:
    import pyarrow as pa

    entry = manifest.tables[name]
    with pa.CompressedInputStream(
        pa.PythonFile(archive.extractfile(f"tables/{name}.tsv.zst"), mode="r"), "zstd"
    ) as file:
        table_copy.copy_in(
            session, name, entry.columns, file, lambda rows: progress(name, rows, entry.rows)
        )


def _compare(session: Session, name: str, manifest: Manifest, progress: Progress) -> None:
    """Read a table back: its text has to have the hash that the original had."""
    entry = manifest.tables[name]
    restored = table_copy.read_back(
        session, name, lambda rows: progress(f"compare {name}", rows, entry.rows)
    )
    if restored != entry:
        raise EmbeddedError(f"the restored table {name} differs from the backup: nothing was kept")
