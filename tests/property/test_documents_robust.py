"""Whatever bytes a file holds, reading it gives documents and findings, and raises nothing."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from document_files import file_of, pdf_bytes, zip_bytes
from fettle.records import Finding
from fettle.retrieval.documents import READ_SUFFIXES, read_file
from fettle.retrieval.passages import cut
from fettle.retrieval.records import Document, PassageSettings

DOCX = zip_bytes(
    {
        "[Content_Types].xml": b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "word/document.xml": b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r>'
        b"<w:t>Text</w:t></w:r></w:p></w:body></w:document>",
    }
)
PDF = pdf_bytes([["One line.", "Another."], ["Page two."]], bookmarks=[("Another.", 0)], title="One")
MARKUP = st.text(alphabet="ab \n#-*`|>[](){}<>/&;:\"'=!_~0123\\\t", max_size=300).map(str.encode)
JSON = st.text(alphabet='{}[]":,\\utexquestionanswer0e-. \n\0', max_size=200).map(str.encode)
ELEMENTS = st.lists(
    st.sampled_from(["<p>", "</p>", "<table>", "<tr>", "<td>", "<ul>", "<li>", "</ul>", "<pre>", "<h1>", "</h1>", "<main>", "<nav>",
                     "<br>", "<!--", "-->", "<script>", "</table>", "text ", "<title>", "<img alt=x>", "&lt;", "<?x?>"]),
    max_size=40,
).map(lambda parts: "".join(parts).encode())  # fmt: skip


def check(name: str, content: bytes) -> None:
    found = list(read_file(file_of(name, content)))
    assert found, "neither a document nor a word about it"
    for one in found:
        assert isinstance(one, Document | Finding)
        assert "\0" not in str(one)
        str(one).encode()
        if isinstance(one, Document):
            assert cut(one, PassageSettings(max_tokens=64), lambda texts: [2 + len(text.split()) for text in texts])


@pytest.mark.parametrize("suffix", READ_SUFFIXES)
@settings(max_examples=25, deadline=None)
@given(content=st.binary(max_size=2000) | MARKUP | JSON | ELEMENTS)
def test_any_bytes_under_any_ending(suffix: str, content: bytes) -> None:
    check(f"a{suffix}", content)


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with a part of them cut out, doubled or written over."""

    def damage(places: tuple[int, int], put: bytes, then: Callable[[bytes, bytes], bytes]) -> bytes:
        start, end = sorted(place % len(whole) for place in places)
        return whole[:start] + then(whole[start:end], put) + whole[end:]

    changes = st.sampled_from(
        [lambda _, put: put, lambda old, _: b"", lambda old, _: old * 2, lambda old, put: old + put]
    )
    return st.builds(
        damage, st.tuples(st.integers(0, 1 << 20), st.integers(0, 1 << 20)), st.binary(max_size=20), changes
    )


@settings(max_examples=80, deadline=None)
@given(content=damaged(PDF))
def test_damaged_pdf_files(content: bytes) -> None:
    check("a.pdf", content)


@settings(max_examples=60, deadline=None)
@given(content=damaged(DOCX))
def test_damaged_docx_files(content: bytes) -> None:
    check("a.docx", content)


@settings(max_examples=60, deadline=None)
@given(body=damaged(zipfile.ZipFile(io.BytesIO(DOCX)).read("word/document.xml")))
def test_docx_files_whose_xml_is_damaged(body: bytes) -> None:
    check("a.docx", zip_bytes({"word/document.xml": body}))
