"""Checks of the disk: which kind it is, whether we may write, and whether the videos on their way fit."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli.doctor.verdict import Check, failure, ok, warning
from pipeline.config import Settings

NETWORKS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb",
        "smb2",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "ncpfs",
        "ocfs2",
    }
    | {"fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.gcsfuse", "fuse.ceph", "virtiofs"}
)
"""Filesystems by their name in /proc/mounts whose locks or shared memory SQLite cannot rely on
(https://www.sqlite.org/wal.html: "WAL does not work over a network filesystem")."""


@dataclass(frozen=True, slots=True)
class Filesystem:
    """What a path lies on."""

    name: str

    @property
    def network(self) -> bool:
        """Whether other machines are between us and the disk."""
        return self.name in NETWORKS


def filesystem(path: Path, mounts: str | None = None) -> Filesystem | None:
    """What `path` lies on, by the text of /proc/mounts (read unless given); None where there is no such list."""
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    place = path.absolute()
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1]))
        if place.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), fields[2])
    return None if best is None else Filesystem(best[1])


def disk_checks(settings: Settings) -> Iterator[Check]:
    """Whether DATA_DIR can be written to and has room for what the settings let in."""
    folder = settings.data_dir
    try:
        _write(folder)
    except OSError as error:
        yield failure(
            "disk",
            f"DATA_DIR={folder} cannot be written to: {error.strerror}",
            "give the folder to the user of this service, or choose another DATA_DIR",
        )
        return
    free = shutil.disk_usage(folder).free
    room = f"{size_text(free)} free in {folder}"
    if free < settings.max_video_bytes:
        yield failure(
            "disk",
            f"{room}: a video of MAX_VIDEO_BYTES={settings.max_video_bytes} does not fit",
            "free the disk, move DATA_DIR, or lower MAX_VIDEO_BYTES",
        )
    elif free < settings.spool_bytes:
        yield warning(
            "disk",
            f"{room}, less than SPOOL_BYTES={settings.spool_bytes}: the disk is full before the spool is",
            "free the disk, move DATA_DIR, or lower SPOOL_BYTES",
        )
    else:
        yield ok("disk", room)


def _write(folder: Path) -> None:
    """Make, write and remove a file. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".doctor-{secrets.token_hex(8)}"
    try:
        with probe.open("xb") as file:
            file.write(b"ok")
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


def size_text(count: float) -> str:
    """Bytes for people, in powers of a thousand."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
