"""A tuned model as one stream of bytes: a TAR archive of its PEFT folder, with its tokenizer and chat template."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fettle.chat.renderer import ChatRenderer
from fettle.errors import ModelError
from fettle.export.folders import ADAPTER_FILES
from fettle.models.load import load_tokenizer
from fettle.models.resolve import ResolvedModel

_CHUNK_BYTES = 1 << 20
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class _Member:
    info: tarfile.TarInfo
    content: BinaryIO

    @property
    def header(self) -> bytes:
        return self.info.tobuf(tarfile.PAX_FORMAT)

    @property
    def padding(self) -> bytes:
        return bytes(-self.info.size % _BLOCK)


class AdapterArchive:
    """An adapter's files, open: what is deleted meanwhile is sent to its end all the same.

    Args:
        folder: Of the adapter.
        base: Its base model, whose tokenizer goes with it.
        template_sha256: Of the chat template that it was trained with.
        name: Of the folder within the archive.

    Raises:
        ModelError: The base model has another chat template by now, or the adapter's files are not there.
    """

    def __init__(self, folder: Path, base: ResolvedModel, *, template_sha256: str, name: str) -> None:
        tokenizer = load_tokenizer(base)
        if ChatRenderer(tokenizer).template.sha256 != template_sha256:
            raise ModelError(f"the chat template of {base.public_id} is not the one that this model was trained with")
        self._members: list[_Member] = []
        with tempfile.TemporaryDirectory() as written:
            tokenizer.save_pretrained(written)
            try:
                trained_at = int((folder / ADAPTER_FILES[0]).stat().st_mtime)  # of all files: twice the same archive
                for file in (*(folder / name for name in ADAPTER_FILES), *sorted(Path(written).iterdir())):
                    self._members.append(_member(file, PurePosixPath(name), trained_at))
            except FileNotFoundError as error:
                self.close()
                raise ModelError("the weights of this model are not on this server any more") from error

    @property
    def num_bytes(self) -> int:
        """Of the whole archive."""
        members = sum(len(part.header) + part.info.size + len(part.padding) for part in self._members)
        return members + 2 * _BLOCK

    def chunks(self) -> Iterator[bytes]:
        """The archive; its files are closed at the end."""
        try:
            for member in self._members:
                yield member.header
                while chunk := member.content.read(_CHUNK_BYTES):
                    yield chunk
                yield member.padding
            yield bytes(2 * _BLOCK)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the files."""
        for member in self._members:
            member.content.close()


def _member(file: Path, folder: PurePosixPath, changed_at: int) -> _Member:
    content = file.open("rb")
    info = tarfile.TarInfo(str(folder / file.name))
    info.size, info.mtime = content.seek(0, 2), changed_at
    content.seek(0)
    return _Member(info, content)
