"""Files, folders and fsspec URLs: what is found there, in which order, and what is only told of."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from document_files import pdf_bytes, read_all
from fettle.errors import ConfigError, DataError
from fettle.records import Action, Severity
from fettle.retrieval.documents import READ_SUFFIXES, read_documents


def fill(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_a_folder_is_read_with_all_below_it_in_the_order_of_its_paths(tmp_path: Path) -> None:
    names = ["z.txt", "a/b.md", "a.txt", "a/a/c.html", ".hidden.md", ".git/x.md", "~$lock.docx", "a/.x/y.txt"]
    documents, findings = read_all(fill(tmp_path, dict.fromkeys(names, "<p>Text.</p>")))
    assert [document.id for document in documents] == ["a/a/c.html", "a/b.md", "a.txt", "z.txt"]
    assert not findings


def test_a_single_file_is_called_by_its_name(tmp_path: Path) -> None:
    documents, _ = read_all(fill(tmp_path, {"guide.md": "# Guide\n\nText."}) / "guide.md")
    assert [(document.id, document.title) for document in documents] == [("guide.md", "Guide")]


def test_what_is_wrong_is_told_and_does_not_stop_the_others(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "a.txt": "First.",
            "b-binary.txt": b"\x7fELF" + os.urandom(5000),
            "c-empty.md": "",
            "d-locked.pdf": pdf_bytes([["x"]], user_password="secret"),
            "e-broken.pdf": b"%PDF-1.4 broken",
            "f-scan.pdf": pdf_bytes([[]]),
            "g-broken.docx": b"PK\x03\x04broken",
            "h.xyz": "?",
            "i.xyz": "?",
            "z.txt": "Last.",
        },
    )
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(200 << 20)
    (tmp_path / "sub" / "empty").mkdir(parents=True)
    documents, findings = read_all(tmp_path)
    assert [document.id for document in documents] == ["a.txt", "z.txt"]
    assert {finding.file: finding.code for finding in findings} == {
        "b-binary.txt": "binary-file",
        "c-empty.md": "empty-file",
        "d-locked.pdf": "protected-file",
        "e-broken.pdf": "broken-file",
        "f-scan.pdf": "no-text",
        "g-broken.docx": "broken-file",
        "h.xyz": "unknown-ending",
        "huge.txt": "too-large",
        "sub/empty/": "empty-folder",
    }
    assert all(finding.message and finding.remedy for finding in findings)
    assert "200.0 MiB" in next(finding.message for finding in findings if finding.code == "too-large")


def test_an_empty_folder_and_one_without_documents_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        read_all(tmp_path)
    with pytest.raises(DataError, match=r"only a\.xyz") as raised:
        read_all(fill(tmp_path, {"a.xyz": "?"}))
    assert ".pdf" in (raised.value.remedy or "")


def test_a_place_where_nothing_is_is_an_error(tmp_path: Path) -> None:
    for place in (tmp_path / "no", f"file://{tmp_path}/no", "memory://no"):
        with pytest.raises(DataError, match="no such"):
            read_all(place)


def test_links_are_followed_inside_the_folder_alone(tmp_path: Path) -> None:
    inside = fill(tmp_path / "docs", {"a.txt": "A.", ".data/b.txt": "B.", "sub/c.txt": "C."})
    fill(tmp_path, {"secret.txt": "Secret.", "docs-too/x.txt": "Secret."})
    (inside / "b.txt").symlink_to(".data/b.txt")  # as Kubernetes mounts files
    (inside / "out.txt").symlink_to("../secret.txt")
    (inside / "out").symlink_to("../docs-too")
    (inside / "loop").symlink_to(".")
    (inside / "gone.txt").symlink_to("nothing")
    documents, findings = read_all(inside)
    assert [document.id for document in documents] == ["a.txt", "b.txt", "sub/c.txt"]
    assert {finding.file: finding.code for finding in findings} == {
        "out.txt": "link-outside",
        "out": "link-outside",
        "loop": "link-to-folder",
        "gone.txt": "broken-link",
    }


def test_what_is_neither_file_nor_folder_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(fill(tmp_path, {"a.txt": "A."}) / "pipe.txt")
    documents, findings = read_all(tmp_path)
    assert [document.id for document in documents] == ["a.txt"]
    assert [(finding.file, finding.code) for finding in findings] == [("pipe.txt", "no-file")]


def test_a_name_that_is_no_utf_8_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"gr\xf6sse.txt")).write_text("Text.")
    (document,) = read_all(tmp_path)[0]
    assert document.id.encode() == "gr\ufffdsse.txt".encode()


def test_the_same_documents_come_from_a_folder_and_from_every_kind_of_url(tmp_path: Path) -> None:
    files = {"a.md": "# A\n\nText.", "sub/b.txt": "B.", "sub/c.jsonl": '{"text": "C."}\n'}
    folder = fill(tmp_path / "docs", dict(files))
    memory = fsspec.filesystem("memory")
    for name, content in files.items():
        memory.pipe(f"/fettle-docs/{name}", content.encode())
    with zipfile.ZipFile(tmp_path / "docs.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    wanted = read_all(folder)[0]
    assert [document.id for document in wanted] == ["a.md", "sub/b.txt", "sub/c.jsonl:1"]
    for place in (f"file://{folder}", "memory://fettle-docs", f"zip://::file://{tmp_path}/docs.zip"):
        assert read_all(place) == (wanted, [])
    memory.rm("/fettle-docs", recursive=True)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b" " * (40 << 20))
        archive.writestr("b.txt", b"B.")
    documents, findings = read_all(f"zip://::{tmp_path}/bomb.zip")
    assert [document.id for document in documents] == ["b.txt"]
    assert [(finding.file, finding.code) for finding in findings] == [("a.txt", "too-large")]


def test_a_package_that_is_missing_and_a_protocol_that_is_unknown_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise ImportError("Install s3fs to access S3")

    with pytest.raises(ConfigError) as unknown:
        read_all("nonsense://bucket/docs")
    assert "nonsense" in str(unknown.value)
    monkeypatch.setattr("fettle.retrieval.document_places.url_to_fs", missing)
    with pytest.raises(ConfigError) as raised:
        read_all("s3://bucket/docs")
    assert raised.value.remedy == "pip install s3fs"


class LockedFileSystem(MemoryFileSystem):
    """Some of its files and folders cannot be read, each for a reason of its own."""

    protocol = "locked"
    store: dict[str, Any] = {}  # noqa: RUF012 -- fsspec's own form
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("locked:/"))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        if path.endswith("private"):
            raise PermissionError("not yours")
        return super().ls(path, detail=detail, **kwargs)

    def _open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        if path.endswith("locked.txt"):
            raise PermissionError(13, "Permission denied")
        if path.endswith("odd.txt"):
            raise KeyError("the plug-in's own error")
        return super()._open(path, *args, **kwargs)


def test_files_and_folders_that_cannot_be_opened_are_named_and_their_place_with_them() -> None:
    fsspec.register_implementation("locked", LockedFileSystem, clobber=True)
    files = LockedFileSystem()
    for name in ("a.txt", "locked.txt", "odd.txt", "private/x.txt", "z.txt"):
        files.store[f"/docs/{name}"] = fsspec.filesystem("memory").open("/x", "wb")
        files.store[f"/docs/{name}"].write(b"Text.")
    documents, findings = read_all("locked://docs")
    assert [document.id for document in documents] == ["a.txt", "z.txt"]
    assert [(finding.file, finding.code, finding.severity, finding.action) for finding in findings] == [
        ("locked.txt", "unreadable-file", Severity.ERROR, Action.LEFT_OUT),
        ("odd.txt", "unreadable-file", Severity.ERROR, Action.LEFT_OUT),
        ("private/", "unreadable-folder", Severity.ERROR, Action.LEFT_OUT),
    ]
    assert "Permission denied" in findings[0].message
    with pytest.raises(ConfigError, match="not yours"):
        read_all("locked://docs/private")


def test_an_id_that_two_documents_have_is_used_once(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {"a.jsonl": '{"id": "x", "text": "1"}\n{"id": "x", "text": "2"}\n{"id": "b.txt", "text": "3"}\n', "b.txt": "4"},
    )
    documents, findings = read_all(tmp_path)
    assert [document.id for document in documents] == ["x", "a.jsonl:2", "b.txt", "b.txt'"]
    assert [(finding.code, finding.file, finding.line) for finding in findings] == [
        ("repeated-id", "a.jsonl", 2),
        ("repeated-id", "b.txt", None),
    ]
    assert len({document.sha256 for document in documents}) == 4


def test_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    found = read_documents(str(fill(tmp_path, {"a.txt": "A.", "b.txt": "B."})))
    next(found)
    (tmp_path / "b.txt").write_text("Changed.")
    assert [one.sections[0].text for one in found if not hasattr(one, "code")] == ["Changed."]  # type: ignore[union-attr]


def test_every_format_that_is_promised_is_read() -> None:
    assert {".md", ".html", ".pdf", ".docx", ".txt", ".csv", ".jsonl"} <= set(READ_SUFFIXES)
