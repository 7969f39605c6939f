"""Writing files atomically: a failed or killed run never leaves half a file."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tfldbg.errors import TfldbgError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path to write to; the content replaces ``target`` when the block succeeds.

    Where the system supports it, the new file has no name until it is complete, so that even a
    killed process leaves nothing.

    Args:
        target: The path of the complete file.

    Raises:
        TfldbgError: The folder is not writable, the disk is full, or the target is not a file or
            is write-protected.
    """
    check_target(target)
    with worded(target):
        handle = _nameless(target.parent)
        if handle is None:
            with _named(target) as temporary:
                yield temporary
                _sync(temporary)
                temporary.replace(target)
            return
        try:
            yield Path(f"/proc/self/fd/{handle}")
            os.fchmod(handle, 0o666 & ~_umask())
            os.fsync(handle)
            _give_name(handle, target)
        finally:
            os.close(handle)


def check_target(target: Path) -> None:
    """Check that a path can be replaced by a file.

    Raises:
        TfldbgError: The path is not a file, or it is a write-protected file.
    """
    if target.exists() and not target.is_file():
        raise TfldbgError(
            f"cannot write '{target}': it is a folder or a device", hint="name a file"
        )
    if target.exists() and not os.access(target, os.W_OK):
        raise TfldbgError(
            f"cannot write '{target}': it is read-only; it was not changed",
            hint=f"name another file, or make it writable: chmod u+w '{target}'",
        )


@contextmanager
def worded(target: Path) -> Iterator[None]:
    """Turn an OSError raised while ``target`` is written into an error that names it.

    Raises:
        TfldbgError: The folder cannot be written to, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise _unwritable(target, error) from error


@contextmanager
def scratch_folder(beside: Path | None = None) -> Iterator[Path]:
    """Yield a temporary folder that is removed however this process ends.

    A shell that runs next to this process waits for its end and removes the folder if it is still
    there.

    Args:
        beside: The folder to create it in, or None for the system's folder for temporary files.

    Raises:
        OSError: The folder cannot be created.
    """
    with tempfile.TemporaryDirectory(prefix="tfldbg-", dir=beside) as name, ExitStack() as stack:
        with suppress(FileNotFoundError):  # a system without a shell
            reaper = subprocess.Popen(  # noqa: S603
                ["/bin/sh", "-c", _REAPER, "sh", str(Path(name).absolute())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            stack.callback(reaper.communicate)
        yield Path(name)


_REAPER = 'read -r _; rm -rf -- "$1"'
"""Waits for the end of its input, which comes when the process at the other end ends."""


def _nameless(folder: Path) -> int | None:
    """Open a new file without a name, or return None where this is not supported."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not Path("/proc/self/fd").is_dir():
        return None
    try:
        return os.open(folder, flag | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            return None
        raise


def _give_name(handle: int, target: Path) -> None:
    """Give a nameless file the name ``target``, replacing the old file."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    with _folder(target.parent) as folder:
        # With a folder's descriptor, linkat(2) is called, which can follow the symbolic link.
        os.link(f"/proc/self/fd/{handle}", temporary, src_dir_fd=folder, follow_symlinks=True)
        try:
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        os.fsync(folder)


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _named(target: Path) -> Iterator[Path]:
    """Yield a temporary file next to ``target`` that is removed unless it was renamed."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        temporary.chmod(0o666 & ~_umask())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_bytes(target: Path, content: bytes) -> None:
    """Write ``content`` to ``target`` completely or not at all.

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
        f"cannot write '{target}': {reason}; the old content was not changed",
        hint="free some space, or name a file elsewhere"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        else "name a file in a folder that is writable",
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
