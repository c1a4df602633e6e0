"""DOCX files made here by python-docx, and hostile ones made by hand."""

from __future__ import annotations

import io
import tracemalloc

import docx
import pytest

from document_files import finding_of, read_one, sections_of, zip_bytes
from fettle.records import Severity

TYPES = b"""<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Default Extension="xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>"""
RELATIONS = b"""<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Id="r1"
Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="TARGET"/></Relationships>"""
NAMESPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def docx_of(body: str, *, before: str = "", target: str = "word/document.xml") -> bytes:
    """A document written by hand."""
    document = f'<?xml version="1.0"?>{before}<w:document xmlns:w="{NAMESPACE}"><w:body>{body}</w:body></w:document>'
    relations = RELATIONS.replace(b"TARGET", target.encode())
    return zip_bytes({"[Content_Types].xml": TYPES, "_rels/.rels": relations, target: document.encode()})


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def saved(document: docx.document.Document) -> bytes:
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def test_headings_lists_and_tables_are_kept() -> None:
    document = docx.Document()
    document.add_heading("Returns", 0)
    document.add_paragraph("Before any heading.")
    document.add_heading("Cards", 1)
    document.add_paragraph("Ten days.")
    document.add_heading("Fees", 2)
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip([*table.rows[0].cells, *table.rows[1].cells], ["Zone", "Fee", "1", "4.90"], strict=True):
        cell.text = text
    document.add_heading("Lists", 1)
    document.add_paragraph("first", style="List Bullet")
    document.add_paragraph("second", style="List Bullet")
    read = read_one("returns.docx", saved(document))
    assert read.title == "Returns"
    assert sections_of(read) == [
        ((), "Before any heading."),
        (("Cards",), "Ten days."),
        (("Cards", "Fees"), "| Zone | Fee |\n| --- | --- |\n| 1 | 4.90 |"),
        (("Lists",), "- first\n- second"),
    ]


def test_accepted_changes_are_read_and_deleted_text_is_not() -> None:
    body = (
        f"<w:p><w:ins>{'<w:r><w:t>New</w:t></w:r>'}</w:ins><w:del><w:r><w:delText>Old</w:delText></w:r></w:del></w:p>"
    )
    assert sections_of(read_one("a.docx", docx_of(body))) == [((), "New")]


def test_markup_in_the_text_stays_text() -> None:
    assert sections_of(read_one("a.docx", docx_of(paragraph("use &lt;b&gt; &amp;amp;")))) == [((), "use <b> &amp;")]


BOMB = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 9))
EXTERNAL = '<!DOCTYPE w:document [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    "before",
    [
        EXTERNAL,
        f'<!DOCTYPE w:document [<!ENTITY a0 "ha">{BOMB}]>',
        '<!DOCTYPE w:document SYSTEM "http://127.0.0.1:9/x.dtd">',
    ],
)
@pytest.mark.parametrize("target", ["word/document.xml", "word/media/image1.png"])
def test_entities_never_work_wherever_the_text_lies(before: str, target: str) -> None:
    finding = finding_of("a.docx", docx_of(paragraph("&x;&a8;"), before=before, target=target))
    assert finding.severity is Severity.ERROR
    assert finding.code in ("hostile-file", "broken-file")


def test_entities_in_utf_16_are_found_too() -> None:
    document = f'<?xml version="1.0" encoding="UTF-16"?>{EXTERNAL}<w:document xmlns:w="{NAMESPACE}"/>'.encode("utf-16")
    relations = RELATIONS.replace(b"TARGET", b"word/document.xml")
    content = zip_bytes({"[Content_Types].xml": TYPES, "_rels/.rels": relations, "word/document.xml": document})
    assert finding_of("a.docx", content).code == "hostile-file"


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    content = docx_of(paragraph(" " * (300 << 20)))
    assert len(content) < 1 << 20
    tracemalloc.start()
    finding = finding_of("a.docx", content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert finding.code == "too-large"
    assert peak < 32 << 20


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"PK\x03\x04 and no archive", "broken-file"),
        (b"plain text", "broken-file"),
        (zip_bytes({"a.txt": b"x"}), "broken-file"),
        (docx_of("<w:p>"), "broken-file"),
        (docx_of("<w:p>" * 5000 + "</w:p>" * 5000), "broken-file"),
        (docx_of(""), "no-text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "protected-file"),
        (b"", "empty-file"),
    ],
)
def test_what_cannot_be_read_is_told_of(content: bytes, code: str) -> None:
    finding = finding_of("a.docx", content)
    assert (finding.code, finding.severity, finding.file) == (code, Severity.ERROR, "a.docx")
