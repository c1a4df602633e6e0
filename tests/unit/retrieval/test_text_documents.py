"""Plain text, Markdown and HTML: what is kept, under which headings, and what is left out."""

from __future__ import annotations

import textwrap

import pytest

from document_files import file_of, finding_of, read_one, sections_of
from fettle.records import Severity
from fettle.retrieval.document_text import fenced, table_text
from fettle.retrieval.documents import read_file
from fettle.retrieval.records import Document


def text(content: str) -> bytes:
    return textwrap.dedent(content).lstrip().encode()


MARKDOWN = """
    ---
    title: Returns guide
    lang: en
    year: 2026
    since: 2026-01-31
    tags: [a, b]
    nothing: .nan
    ---
    Before a [heading](https://example.com/long/address) and ![a parcel](p.png).
    Same paragraph.

    # Cards

    Refunds take *ten* `days`.

    ## Fees <a id="fees"></a>

    | Zone | Fee |
    |------|----:|
    | 1    | 4.90 |

    ```py
    def fee():

        return 4.9
    ```

    <!-- nobody reads this -->

    > Quoted,
    > all of it.

    # Lists

    1. first
    2. second
       - nested
"""


def test_markdown_keeps_headings_tables_code_and_lists_and_takes_attributes_from_the_front_matter() -> None:
    document = read_one("guide/returns.md", text(MARKDOWN))
    assert (document.id, document.source, document.title) == ("guide/returns.md", "guide/returns.md", "Returns guide")
    assert document.attributes == {"lang": "en", "year": 2026, "since": "2026-01-31"}
    assert sections_of(document) == [
        ((), "Before a heading and a parcel. Same paragraph."),
        (("Cards",), "Refunds take ten days."),
        (
            ("Cards", "Fees"),
            "| Zone | Fee |\n| --- | --- |\n| 1 | 4.90 |\n\n```py\ndef fee():\n\n    return 4.9\n```\n\nQuoted, all of it.",
        ),
        (("Lists",), "1. first\n2. second\n   - nested"),
    ]


def test_the_only_top_heading_of_markdown_is_its_title_and_heads_no_section() -> None:
    document = read_one("a.md", text("# Guide\n\nIntro.\n\n## One\n\nText.\n"))
    assert document.title == "Guide"
    assert sections_of(document) == [((), "Intro."), (("One",), "Text.")]


def test_a_heading_with_nothing_under_it_is_text() -> None:
    document = read_one(
        "a.md", text("# A\n\nText.\n\n## Do you ship to Norway? No.\n\n## Is it free? Yes.\n\n# B\n\nText.\n")
    )
    assert sections_of(document)[1:3] == [(("A",), "Do you ship to Norway? No."), (("A",), "Is it free? Yes.")]


def test_front_matter_that_is_no_yaml_is_text_and_told_of() -> None:
    note, document = read_file(file_of("a.md", text("---\ntitle: a: b: [\n---\nText.\n")))
    assert isinstance(document, Document)
    assert (note.code, note.severity) == ("front-matter", Severity.WARNING)
    assert document.title == "title: a: b: ["  # Markdown takes a line above --- for a heading


PAGE = """
    <!doctype html><html lang="en"><head><title>Shipping | Carrier</title><style>p{}</style></head><body>
    <header>Carrier: parcels since 1999</header><nav><a href="/">Home</a></nav>
    <h1>Shipping</h1><p>We ship<br>on <b>week</b>days.</p><p hidden>Secret</p><p style="display: none">Secret</p>
    <article><header><h2>Zones</h2></header>
    <table><tr><th>Zone<th>Fee</tr><tr><td>1 | inland</td><td>4.90</td></tr></table>
    <ul><li>one<ul><li>inner</li></ul></li><li><p>two</p><p>more</p></li></ul></article>
    <div>Loose <span>text</span><div>in a box</div>and behind it</div>
    <pre>a = 1
      b = 2</pre><script>alert("x")</script><footer>Imprint</footer></body></html>
"""


def test_html_is_read_without_scripts_menus_and_frames_of_the_site() -> None:
    document = read_one("s.html", text(PAGE))
    assert document.title == "Shipping"
    assert sections_of(document) == [
        ((), "We ship\non weekdays."),
        (
            ("Zones",),
            "| Zone | Fee |\n| --- | --- |\n| 1 \\| inland | 4.90 |\n\n- one\n  - inner\n- two\n  more\n\nLoose text\n\nin a box"
            "\n\nand behind it\n\n```\na = 1\n  b = 2\n```",
        ),
    ]


def test_of_a_page_with_a_main_part_that_alone_is_read_and_the_page_names_it() -> None:
    document = read_one(
        "a.html", b"<title>Fees</title><p>Welcome</p><main><p>4.90 a parcel</p></main><div>Cookies?</div>"
    )
    assert (document.title, sections_of(document)) == ("Fees", [((), "4.90 a parcel")])


def test_a_table_that_only_lays_out_a_page_is_no_table() -> None:
    document = read_one("a.html", b"<table><tr><td><h2>Fees</h2><p>4.90</p></td><td><pre>x</pre></td></tr></table>")
    assert document.title == "Fees"
    assert sections_of(document) == [((), "4.90\n\n```\nx\n```")]


def test_nothing_that_a_page_names_is_fetched_and_no_entity_of_its_own_is_read() -> None:
    hostile = b"""<!DOCTYPE html [<!ENTITY x SYSTEM "file:///etc/passwd">]><p>a &x; b</p>
    <img src="http://127.0.0.1:9/a.png" alt="fig">"""
    assert "root:" not in read_one("a.html", hostile).sections[0].text


@pytest.mark.parametrize("element", [b"div", b"ul", b"table"])
def test_a_page_is_read_as_deep_as_it_is_parsed_and_refused_beyond(element: bytes) -> None:
    start, end = b"<" + element + b">", b"</" + element + b">"
    assert "deep" in read_one("a.html", start * 230 + b"deep" + end * 230).sections[0].text
    for name in ("a.html", "a.md"):
        assert finding_of(name, start * 5000 + b"deep" + end * 5000 + b"\n\nafter").code == "beyond-bounds"


@pytest.mark.parametrize("declared", ["iso-8859-2", "windows-1250"])
def test_a_page_is_in_the_encoding_that_it_declares(declared: str) -> None:
    page = f'<meta charset="{declared}"><p>Zażółć gęślą jaźń</p>'.encode(declared)
    assert read_one("a.html", page).sections[0].text == "Zażółć gęślą jaźń"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_is_read_in_any_common_encoding(encoding: str) -> None:
    content = "Größe für 20 €.\r\n\r\nZweiter Absatz\x00 mit So­ftzeichen.".encode(encoding)
    document = next(one for one in read_file(file_of("größe.txt", content)) if isinstance(one, Document))
    assert document.title == "größe"
    assert sections_of(document) == [((), "Größe für 20 €.\n\nZweiter Absatz mit Softzeichen.")]


def test_a_guessed_encoding_is_told_with_a_remedy_that_exists_here() -> None:
    notes = [
        one
        for one in read_file(file_of("a.txt", "Größe für 20 €, ganz groß".encode("cp1252")))
        if not isinstance(one, Document)
    ]
    assert [note.code for note in notes] == ["encoding"]
    assert "--encoding" not in notes[0].remedy


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty-file"),
        (b" \n\t\n", "empty-file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40, "binary-file"),
        (b"%PDF-1.7 and so on, like text", "binary-file"),
        (b"PK\x03\x04" + b"x" * 100, "binary-file"),
        (bytes(range(256)) * 100, "binary-file"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.csv", "a.jsonl", "a.json"])
def test_what_is_no_text_is_refused_whatever_it_is_called(name: str, content: bytes, code: str) -> None:
    finding = finding_of(name, content)
    assert (finding.code, finding.severity, finding.file) == (code, Severity.ERROR, name)
    assert finding.remedy


@pytest.mark.parametrize("name", ["a.html", "a.md"])
def test_markup_without_any_text_is_told_of(name: str) -> None:
    assert finding_of(name, b"<!-- only a comment -->").code == "no-text"


def test_the_hash_is_of_all_that_is_kept_and_of_nothing_else() -> None:
    once, again = read_one("a.md", b"# A\n\nText.\n"), read_one("a.md", b"# A\n\n\n\nText. <!-- new -->\n")
    assert once.sha256 == again.sha256
    others = [
        read_one("a.md", b"# A\n\nText!\n"),
        read_one("b.md", b"# A\n\nText.\n"),
        read_one("a.md", b"# B\n\nText.\n"),
    ]
    others.append(read_one("a.md", b"---\nx: 1\n---\n# A\n\nText.\n"))
    assert len({one.sha256 for one in (once, *others)}) == 5


def test_code_with_fences_in_it_gets_a_longer_fence() -> None:
    assert fenced("a\n```\nb") == "````\na\n```\nb\n````"


def test_a_table_with_ragged_rows_is_filled_up() -> None:
    assert table_text([["a", "b"], ["1"], ["", ""]]) == "| a | b |\n| --- | --- |\n| 1 |  |"


def test_what_is_no_object_is_told_in_terms_of_documents() -> None:
    finding = finding_of("a.jsonl", b"[1, 2]\n")
    assert finding.remedy == "write one object with id, title and text, or with question and answer, per line"
