"""Handing out the files of a release: as attachments that no browser runs, and all of them as one streamed zip."""

import zipfile
from collections.abc import Iterator
from typing import IO

from django.core.files.storage import storages
from django.http import FileResponse, Http404, HttpResponseBase, StreamingHttpResponse

from apps.exports.models import Release

_CHUNK = 256 * 1024


def file_names(release: Release) -> list[str]:
    """The files of a built release that lie in the releases storage: those of its manifest, and the manifest."""
    if release.state != Release.State.BUILT or not release.folder:
        return []
    return [*(file["name"] for file in release.manifest["files"]), "manifest.json"]


def file_response(release: Release, name: str) -> HttpResponseBase:
    """One file as an attachment. Raises `Http404` for any name that the manifest does not hold."""
    if name not in file_names(release):
        raise Http404(f"Release {release.number} has no file “{name}”.")
    return _inert(FileResponse(_open(release, name), as_attachment=True, filename=name, content_type="application/octet-stream"))


def zip_response(release: Release) -> HttpResponseBase:
    """All files in one zip, streamed with flat memory."""
    names = file_names(release)
    if not names:
        raise Http404(f"Release {release.number} has no files to download.")
    stem = f"{release.study.slug}-release-{release.number}"
    response = StreamingHttpResponse(_zip(release, stem, names), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="{stem}.zip"'
    return _inert(response)


def _inert(response: HttpResponseBase) -> HttpResponseBase:
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["Cache-Control"] = "private, no-store"
    return response


def _open(release: Release, name: str) -> IO[bytes]:
    try:
        return storages["releases"].open(f"{release.folder}/{name}")
    except FileNotFoundError as error:
        raise Http404(f"The file “{name}” of release {release.number} is gone from the releases storage.") from error


class _Buffer:
    """Where `zipfile` writes: it cannot seek, and what was written is taken away after each chunk."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """There is nothing to close."""

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def _zip(release: Release, stem: str, names: list[str]) -> Iterator[bytes]:
    buffer = _Buffer()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            info = zipfile.ZipInfo(f"{stem}/{name}")
            info.compress_type = zipfile.ZIP_DEFLATED
            with _open(release, name) as source, archive.open(info, "w", force_zip64=True) as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)
                    yield buffer.take()
    yield buffer.take()
