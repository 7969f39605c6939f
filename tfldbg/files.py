"""Writing files so that a failed or killed run leaves the old file or none, never half a file."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tfldbg.errors import TfldbgError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; rename it into place when the block succeeds.

    Args:
        target: Where the whole file shall stand in the end.

    Raises:
        TfldbgError: The folder cannot be written to, the disk is full, or the target is no file.
    """
    if target.exists() and not target.is_file():
        raise TfldbgError(
            f"cannot write '{target}': it is a folder or a device", hint="name a file"
        )
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise _unwritable(target, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_bytes(target: Path, content: bytes) -> None:
    """Write ``content`` to ``target`` whole or not at all.

    Raises:
        TfldbgError: The folder cannot be written to, or the disk is full.
    """
    with replacing(target) as temporary:
        temporary.write_bytes(content)


def sha256(content: bytes | memoryview) -> str:
    """Return the SHA-256 of ``content`` as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_path(path: Path) -> str:
    """Return the SHA-256 of a file, or of the sorted files of a folder, names included."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if file != path:
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _unwritable(target: Path, error: OSError) -> TfldbgError:
    reason = error.strerror or str(error)
    return TfldbgError(
        f"cannot write '{target}': {reason}; nothing was left behind",
        hint="free some space, or name a file elsewhere"
        if error.errno == errno.ENOSPC
        else "name a file in a folder that takes files",
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
