"""PDF files made here: pages, headings, what layout puts in, and everything that is wrong with PDF files."""

from __future__ import annotations

import io
import logging
import re

import pytest
from pypdf import PdfReader, PdfWriter, _encryption
from pypdf.errors import DependencyError
from pypdf.generic import ArrayObject, NameObject, NumberObject

from document_files import file_of, finding_of, pdf_bytes, read_one, sections_of
from fettle.records import Severity
from fettle.retrieval.documents import read_file
from fettle.retrieval.page_text import known_words, lines_of_pages, paragraphs_of
from fettle.retrieval.records import Document


def test_pages_keep_their_numbers_and_the_title_is_what_stands_on_the_first() -> None:
    content = pdf_bytes(
        [["Terms of Carriage", "We carry parcels."], ["Claims are made in writing."]], title="Terms of Carriage"
    )
    document = read_one("terms.pdf", content)
    assert document.title == "Terms of Carriage"
    assert [(section.page, section.text) for section in document.sections] == [
        (1, "Terms of Carriage We carry parcels."),
        (2, "Claims are made in writing."),
    ]


def test_a_title_that_stands_nowhere_in_the_text_is_not_believed() -> None:
    assert read_one("terms.pdf", pdf_bytes([["We carry parcels."]], title="Microsoft Word - x.doc")).title == "terms"


def test_bookmarks_are_headings_where_they_stand_on_their_page() -> None:
    pages = [
        ["Foreword.", "1. Fees", "A parcel is 4.90.", "2 Claims and", "complaints", "In writing."],
        ["More on claims.", "End."],
    ]
    bookmarks = [("Fees", 0), ("Claims and complaints", 0), ("Nowhere to be found", 1)]
    document = read_one("a.pdf", pdf_bytes(pages, bookmarks=bookmarks))
    assert [(section.page, section.title_path, section.text) for section in document.sections] == [
        (1, (), "Foreword."),
        (1, ("Fees",), "A parcel is 4.90."),
        (1, ("Claims and complaints",), "In writing."),
        (2, (), "More on claims. End."),
    ]


def test_repeated_headers_go_but_for_the_first_and_page_numbers_with_them() -> None:
    pages = [["Carrier, terms", f"Text of page {'abcde'[page]}.", f"Page {page + 3} of 9"] for page in range(5)]
    text = "\n".join(section.text for section in read_one("a.pdf", pdf_bytes(pages)).sections)
    assert text.count("Carrier, terms") == 1
    assert re.findall(r"Page \d", text) == ["Page 3"]
    assert all(f"Text of page {letter}." in text for letter in "abcde")


def test_lines_that_only_look_alike_from_page_to_page_all_stay() -> None:
    pages = [
        ["Invoice", f"Parcels: {count}", f"Total {amount} EUR"]
        for count, amount in [(3, 17), (1, 90), (4, 12), (5, 30)]
    ]
    text = "\n".join(section.text for section in read_one("a.pdf", pdf_bytes(pages)).sections)
    assert [text.count(f"Total {amount} EUR") for amount in (17, 90, 12, 30)] == [1, 1, 1, 1]
    assert [text.count(f"Parcels: {count}") for count in (3, 1, 4, 5)] == [1, 1, 1, 1]


def test_words_that_are_divided_at_line_ends_are_mended_and_compounds_keep_their_hyphen() -> None:
    lines = ["The sur-", "charge for well-", "known senders is a well-known surcharge of ours."]
    assert list(paragraphs_of(lines, known_words([lines]))) == [
        "The surcharge for well-known senders is a well-known surcharge of ours."
    ]


def test_a_sentence_that_a_page_break_cuts_stands_on_the_page_it_begins_on() -> None:
    pages = ["Claims must be made\nwithin ten", "days of receipt. Others are void.\nNew paragraph."]
    assert lines_of_pages(pages) == [
        ["Claims must be made", "within ten", "days of receipt."],
        ["Others are void.", "New paragraph."],
    ]


def test_ligatures_become_letters() -> None:
    assert lines_of_pages(["ﬁnal oﬀer, ﬂat"]) == [["final offer, flat"]]


@pytest.mark.parametrize(
    "content", [b"%PDF-1.7\nnothing more", b"no PDF at all, but long enough to be read", pdf_bytes([["a"]])[:300]]
)
def test_a_broken_pdf_is_told_of(content: bytes) -> None:
    finding = finding_of("a.pdf", content)
    assert (finding.code, finding.severity, finding.file) == ("broken-file", Severity.ERROR, "a.pdf")


def test_a_pdf_that_a_password_opens_is_told_of() -> None:
    finding = finding_of("a.pdf", pdf_bytes([["Secret"]], user_password="x", owner_password="y"))
    assert finding.code == "protected-file"
    assert "password" in finding.remedy


def test_a_pdf_that_is_only_protected_from_changes_is_read() -> None:
    assert (
        read_one("a.pdf", pdf_bytes([["For all to read."]], owner_password="y")).sections[0].text == "For all to read."
    )


def test_an_encrypted_pdf_without_the_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise DependencyError("cryptography>=3.1 is required for AES algorithm")

    content = pdf_bytes([["For all to read."]], owner_password="y")
    monkeypatch.setattr(_encryption, "aes_cbc_decrypt", refuse)
    monkeypatch.setattr(_encryption, "aes_cbc_encrypt", refuse)
    assert "fettle-llm[encrypted]" in finding_of("a.pdf", content).remedy


def test_a_scan_is_told_of_with_the_remedy() -> None:
    finding = finding_of("scan.pdf", pdf_bytes([[], []]))
    assert finding.code == "no-text"
    assert "OCR" in finding.remedy


def test_pages_without_text_among_others_are_named() -> None:
    note, document = read_file(file_of("a.pdf", pdf_bytes([["One."], [], ["Three."], []])))
    assert (note.code, note.severity) == ("page-without-text", Severity.WARNING)
    assert "pages 2, 4 of 4" in note.message
    assert isinstance(document, Document)
    assert [section.page for section in document.sections] == [1, 3]


def test_a_broken_page_does_not_stop_the_others() -> None:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf_bytes([["One."], ["Two."]]))))
    writer.pages[1][NameObject("/Contents")] = ArrayObject([NumberObject(7)])
    written = io.BytesIO()
    writer.write(written)
    found = list(read_file(file_of("a.pdf", written.getvalue())))
    assert [one.code for one in found if not isinstance(one, Document)] in (["broken-page"], ["page-without-text"])
    assert [sections_of(one) for one in found if isinstance(one, Document)] == [[((), "One.")]]


def test_what_pypdf_says_of_damaged_files_does_not_reach_the_terminal(caplog: pytest.LogCaptureFixture) -> None:
    damaged = pdf_bytes([["Text."]]).replace(b"startxref", b"startxxxx")
    with caplog.at_level(logging.DEBUG):
        list(read_file(file_of("a.pdf", damaged)))
    assert not [record for record in caplog.records if record.name.startswith("pypdf")]


def _told(tag: str, num_lines: int) -> list[str]:
    return [
        f"{tag} line {'abcdefghijklmnop'[line]} tells of parcels and of refunds, at some length."
        for line in range(num_lines)
    ]


def test_what_differs_by_a_number_on_pages_of_a_few_lines_is_no_page_number() -> None:
    years = [["Report", f"Year {2001 + page}", f"Revenue {5 + page}"] for page in range(4)]
    sections = read_one("a.pdf", pdf_bytes(years)).sections
    assert [section.text.removeprefix("Report ") for section in sections] == [
        f"Year {2001 + page} Revenue {5 + page}" for page in range(4)
    ]
    bills = [[f"Invoice {page + 1}", "Total 10", "Thank you"] for page in range(4)]
    text = "\n".join(section.text for section in read_one("a.pdf", pdf_bytes(bills)).sections)
    assert (text.count("Invoice"), text.count("Total 10"), text.count("Thank you")) == (4, 4, 1)


def test_headers_that_repeat_the_heading_of_a_chapter_go_though_they_are_on_few_pages() -> None:
    pages, bookmarks = [], []
    for chapter in range(5):
        bookmarks.append((f"Chapter {'ABCDE'[chapter]}", 2 * chapter))
        pages += [
            [f"Chapter {'ABCDE'[chapter]}", *_told(f"{chapter}x", 8), "It goes"],
            [f"{2 * chapter + 2} Chapter {'ABCDE'[chapter]}", "on here.", *_told(f"{chapter}y", 8)],
        ]
    document = read_one("a.pdf", pdf_bytes(pages, bookmarks=bookmarks))
    assert all("Chapter" not in section.text for section in document.sections)
    assert [section.title_path for section in document.sections[:3]] == [("Chapter A",), ("Chapter A",), ("Chapter B",)]
    assert document.sections[0].text.endswith("It goes\non here.")


def test_a_heading_is_not_the_header_of_its_page_and_bookmarks_need_no_order() -> None:
    pages = [
        ["Refunds", "The end of the fees.", "Refunds", "Fourteen days."],
        ["Bees", "text of b", "Ants", "text of a"],
    ]
    bookmarks = [("Refunds", 0), ("Ants", 1), ("Bees", 1)]
    document = read_one("a.pdf", pdf_bytes(pages, bookmarks=bookmarks))
    assert [(section.title_path, section.text) for section in document.sections] == [
        ((), "Refunds The end of the fees."),
        (("Refunds",), "Fourteen days."),
        (("Bees",), "text of b"),
        (("Ants",), "text of a"),
    ]


def test_what_follows_a_bookmark_that_is_not_on_its_page_stands_not_under_the_one_before() -> None:
    pages = [["Terms", "General.", "Returns", "In writing."], ["Chapter Two: Warranty", "Two years."]]
    writer_bookmarks = [("Terms", 0), ("Returns", 0), ("2. Warranty terms", 1)]
    document = read_one("a.pdf", pdf_bytes(pages, bookmarks=writer_bookmarks))
    assert document.sections[-1].title_path == ()
    assert document.sections[-1].text == "Chapter Two: Warranty Two years."
