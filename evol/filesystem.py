"""On what kind of file system a folder is: SQLite's journal and its locks are not safe on one that is far away."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")  # Linux; where it is missing nothing is known
# Of many machines at once, or behind a protocol: locks, shared memory and fsync are not what they are on a disk.
REMOTE = re.compile(
    r"(?:nfs4?|cifs|smb3?|smbfs|ncpfs|9p|afs|ceph|coda|lustre|beegfs|gpfs|glusterfs|gfs2?|ocfs2|pvfs2|orangefs|wekafs"
    r"|davfs|fuse\.(?:sshfs|glusterfs|s3fs|s3ql|rclone|gcsfuse|goofys|mergerfs|blobfuse2?|juicefs|dbfs|davfs2?|ceph|curlftpfs"
    r"|lustre|beegfs_ondemand|onedriver|google-drive-ocamlfuse))"
)
ESCAPED = re.compile(r"\\([0-7]{3})")


def remote_kind(path: Path, mounts: Path = MOUNTS) -> str:
    """The name of the file system the path is on, or will be, where that is a remote one; else empty."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    resolved = path.resolve()
    places = {resolved, *resolved.parents}
    found = [(len(where.parts), kind) for where, kind in map(_mount, lines) if where in places]
    # Of two on the same place the later one covers the earlier.
    kind = max(enumerate(found), key=lambda numbered: (numbered[1][0], numbered[0]))[1][1] if found else ""
    return kind if REMOTE.fullmatch(kind) else ""


def _mount(line: str) -> tuple[Path, str]:
    """Where a file system is mounted and what it is, from a line of `mountinfo` (proc(5)); nowhere for other lines."""
    before, _, after = line.partition(" - ")
    fields, kinds = before.split(), after.split()
    if len(fields) < 5 or not kinds:
        return Path("nowhere"), ""
    return Path(ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[4])), kinds[0]
