"""No text is lost, glued to its neighbour, or put under a heading or into a column that is not its own."""

from __future__ import annotations

import io

import docx
import pytest
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from document_files import file_of, read_one
from fettle.records import Finding
from fettle.retrieval.document_readers.html import HtmlReader
from fettle.retrieval.documents import read_file
from fettle.retrieval.records import Document

_MATHS = "http://schemas.openxmlformats.org/officeDocument/2006/math"


def sections_of(name: str, content: str | bytes) -> list[tuple[tuple[str, ...], str]]:
    read = read_one(name, content if isinstance(content, bytes) else content.encode())
    return [(section.title_path, section.text) for section in read.sections]


def text_of(name: str, content: str | bytes) -> str:
    return "\n\n".join(text for _, text in sections_of(name, content))


class TestTheTitle:
    @pytest.mark.parametrize(("name", "content"), [
        ("a.md", "What to know.\n\n## Refunds\n\nFourteen days.\n"),
        ("a.html", "<p>What to know.</p><h2>Refunds</h2><p>Fourteen days.</p>"),
    ])  # fmt: skip
    def test_is_no_lower_heading_that_text_stands_before(self, name: str, content: str) -> None:
        assert read_one(name, content.encode()).title == "a"
        assert sections_of(name, content) == [((), "What to know."), (("Refunds",), "Fourteen days.")]

    def test_is_the_only_top_heading_below_a_badge(self) -> None:
        content = "[![build](b.svg)](b)\n\n# Handbook\n\n## Refunds\n\nFourteen days.\n"
        assert read_one("a.md", content.encode()).title == "Handbook"
        assert sections_of("a.md", content)[-1] == (("Refunds",), "Fourteen days.")


class TestMarkdown:
    def test_divides_words_at_line_breaks(self) -> None:
        table = "| Zone | Price |\n|--|--|\n| one<br>two | x<br/>y |\n\nnine<BR />ten"
        assert text_of("a.md", table) == "| Zone | Price |\n| --- | --- |\n| one two | x y |\n\nnine\nten"

    def test_keeps_footnotes_of_one_word_and_drops_addresses(self) -> None:
        content = "Fees[^1] apply, see [terms].\n\n[^1]: Waived\n\n[^2]: https://example.com/fees\n\n[terms]: https://example.com/terms\n"
        assert (
            text_of("a.md", content) == "Fees[^1] apply, see terms.\n\n[^1]: Waived\n\n[^2]: https://example.com/fees"
        )

    def test_knows_headings_that_are_html(self) -> None:
        content = '<h1 align="center">Handbook</h1>\n\n<h2>Refunds</h2>\n\nFourteen days.\n'
        assert read_one("a.md", content.encode()).title == "Handbook"
        assert sections_of("a.md", content) == [(("Refunds",), "Fourteen days.")]

    def test_has_front_matter_at_the_very_end_and_numbers_of_any_size(self) -> None:
        read = read_one("a.md", b"---\ntitle: T\nbig: " + b"9" * 30 + b"\n---\ntext")
        assert read.attributes == {"big": "9" * 30}
        assert read_one("a.md", b"---\ntitle: T\n---\n\nText").title == "T"

    def test_reads_front_matter_as_text_that_cannot_be_written_out(self) -> None:
        note, read = read_file(file_of("a.md", b"---\nbig: 0x" + b"f" * 5000 + b"\n---\n\nText"))
        assert isinstance(note, Finding)
        assert note.code == "front-matter"
        assert isinstance(read, Document)
        assert read.sections[-1].text.endswith("\n\nText")


class TestHtml:
    def test_puts_cells_into_their_columns(self) -> None:
        table = (
            "<table><tr><th>Zone<th>Size<th>Price<tr><td rowspan=2>EU<td>S<td>4<b>.90</b><tr><td>L<td>9.90<br>net"
            "<tr><td colspan=2>all<td>1</table>"
        )
        assert text_of("a.html", table) == (
            "| Zone | Size | Price |\n| --- | --- | --- |\n| EU | S | 4.90 |\n| EU | L | 9.90 net |\n| all |  | 1 |"
        )

    def test_bounds_what_spans_can_blow_up(self) -> None:
        bomb = "<table>" + "<tr><td rowspan=9999999999 colspan=9999999999>x" * 4000 + "</table>"
        assert len(text_of("a.html", bomb)) < 4_000_000
        assert text_of("a.html", f"<table><tr><td rowspan={'9' * 5000}>x<td colspan=0>y</table>").startswith(
            "| x | y |"
        )

    def test_bounds_what_short_rows_are_filled_up_to(self) -> None:
        bomb = "<table><tr>" + "<td>x" * 20_000 + "<tr><td>y" * 20_000 + "</table>"
        assert len(text_of("a.html", bomb)) < 2_000_000

    def test_keeps_the_numbers_of_lists_and_what_stands_between_their_points(self) -> None:
        lists = "<ul>First:<li>one</li>then<li>two</ul><ol start=5><li>five<li value=9>nine<li>ten</ol>"
        assert text_of("a.html", lists) == "First:\n- one\nthen\n- two\n\n5. five\n9. nine\n10. ten"

    def test_divides_words_at_line_breaks_in_headings_and_code(self) -> None:
        page = "<h1>T</h1><h2>Foo<br>Bar<a class=headerlink href=#x>¶</a></h2><pre>a<br>b</pre>"
        assert sections_of("a.html", page) == [(("Foo Bar",), "```\na\nb\n```")]

    def test_keeps_notes_inside_an_article_and_drops_the_site_s_sidebar(self) -> None:
        page = "<aside>Menu</aside><article><p>Text.</p><aside>Mind the gap.</aside></article>"
        assert text_of("a.html", page) == "Text.\n\nMind the gap."


def word_file(fill) -> bytes:
    document = docx.Document()
    fill(document)
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


class TestDocx:
    def test_has_nine_levels_of_headings(self) -> None:
        def fill(document) -> None:
            for level in range(1, 10):
                document.add_heading(f"L{level}", level)
            document.add_paragraph("deep")
            document.add_heading("L6 again", 6)
            document.add_paragraph("less deep")

        (_, last) = sections_of("a.docx", word_file(fill))
        assert last == (("L2", "L3", "L4", "L5", "L6 again"), "less deep")
        (first, _) = sections_of("a.docx", word_file(fill))
        assert first == (tuple(f"L{level}" for level in range(2, 10)), "deep")

    def test_knows_headings_of_house_styles(self) -> None:
        def fill(document) -> None:
            style = document.styles.add_style("ACME's Chapter", WD_STYLE_TYPE.PARAGRAPH)
            style.base_style = document.styles["Heading 1"]
            own = document.styles.add_style("Abschnitt", WD_STYLE_TYPE.PARAGRAPH)
            level = parse_xml(f'<w:outlineLvl {nsdecls("w")} w:val="1"/>')
            own.element.get_or_add_pPr().append(level)
            contents = document.styles.add_style("Contents Title", WD_STYLE_TYPE.PARAGRAPH)
            contents.base_style = document.styles["Heading 1"]
            contents.element.get_or_add_pPr().append(parse_xml(f'<w:outlineLvl {nsdecls("w")} w:val="9"/>'))
            document.add_paragraph("Contents", style=contents)
            for chapter in ("Returns", "Warranty"):
                document.add_paragraph(chapter, style=style)
                document.add_paragraph("Details", style=own)
                document.add_paragraph(f"About {chapter}.")

        assert sections_of("a.docx", word_file(fill)) == [
            ((), "Contents"),
            (("Returns", "Details"), "About Returns."),
            (("Warranty", "Details"), "About Warranty."),
        ]

    @pytest.mark.parametrize("inner", [
        '<w:fldSimple w:instr="REF x"><w:r><w:t>WANTED</w:t></w:r></w:fldSimple>',
        "<m:oMath><m:r><m:t>WANTED</m:t></m:r></m:oMath>",
        "<m:oMathPara><m:oMath><m:r><m:t>WANTED</m:t></m:r></m:oMath></m:oMathPara>",
        '<w:bdo w:val="rtl"><w:r><w:t>WANTED</w:t></w:r></w:bdo>',
        "<w:r><w:ruby><w:rt><w:r><w:t>reading</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>WANTED</w:t></w:r></w:rubyBase></w:ruby></w:r>",
        '<w:moveTo w:id="1" w:author="x"><w:r><w:t>WANTED</w:t></w:r></w:moveTo>',
    ])  # fmt: skip
    def test_reads_text_in_fields_and_formulas(self, inner: str) -> None:
        def fill(document) -> None:
            xml = f'<w:p {nsdecls("w")} xmlns:m="{_MATHS}"><w:r><w:t xml:space="preserve">before </w:t></w:r>{inner}</w:p>'
            document.element.body.insert(0, parse_xml(xml))

        assert text_of("a.docx", word_file(fill)) == "before WANTED"

    def test_repeats_a_cell_in_the_rows_that_it_takes(self) -> None:
        def fill(document) -> None:
            table = document.add_table(3, 2)
            for row, cells in enumerate([("Zone", "Price"), ("EU", "4"), ("", "9")]):
                for column, text in enumerate(cells):
                    table.cell(row, column).text = text
            table.cell(1, 0).merge(table.cell(2, 0))

        assert text_of("a.docx", word_file(fill)) == "| Zone | Price |\n| --- | --- |\n| EU | 4 |\n| EU | 9 |"


def test_a_large_page_is_read_in_its_order() -> None:
    page = "".join(f"<h2>S{number}</h2><p>Text {number}.</p>" for number in range(300)).encode()
    (document,) = HtmlReader().read(file_of("a.html", page))
    assert isinstance(document, Document)
    assert not isinstance(document, Finding)
    assert [(section.title_path, section.text) for section in document.sections] == [
        ((f"S{number}",), f"Text {number}.") for number in range(300)
    ]
