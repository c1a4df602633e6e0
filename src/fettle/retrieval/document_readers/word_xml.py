"""What mammoth passes over in a DOCX: which styles are headings, and text that stands in fields, formulas and the like.

Parts come checked: they declare no document type, and their size is bounded.
"""

from __future__ import annotations

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] (compiled, without stubs)

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_MAX_LEVEL = 9
"""Of Word's headings."""
_MAX_BASES = 20
_UNWRAPPED = (f"{_W}fldSimple", f"{_W}bdo", f"{_W}dir")
"""What stands around runs and mammoth does not look into."""


def heading_styles_of(styles: bytes) -> tuple[str, ...]:
    """The paragraph styles that are headings, in mammoth's words: those called `heading 1` to `heading 9`, and whatever has an
    outline level of its own or from the style that it stands on, as house styles have.

    Args:
        styles: The part `word/styles.xml`.
    """
    root = _parsed(styles)
    if root is None:
        return ()
    by_id = {
        style.get(f"{_W}styleId"): style
        for style in root.iter(f"{_W}style")
        if style.get(f"{_W}type", "paragraph") == "paragraph"
    }
    rules: list[str] = []
    for style in by_id.values():
        level = _level_of(style, by_id)
        name = _value(style, "name")
        if level is not None and name.isprintable() and name.lower() not in ("", "title", "subtitle"):
            rules.append(f"p[style-name='{_quoted(name)}'] => h{level + 1}:fresh")
    return tuple(rules)


def with_all_text(part: bytes) -> bytes:
    """A part with the text of fields, formulas, ruby and directions of writing as plain runs, which mammoth reads."""
    root = _parsed(part)
    if root is None:
        return part
    for element in list(root.iter(*_UNWRAPPED)):
        _replace(element, list(element))
    for ruby in list(root.iter(f"{_W}ruby")):  # the text itself, without its reading; in a run of its own
        run = ruby.getparent()
        if run is not None and run.tag == f"{_W}r":
            _replace(ruby, [child for base in ruby.iter(f"{_W}rubyBase") for child in base.iter(f"{_W}t")])
    for formula in list(root.iter(f"{_M}oMath")):
        text = "".join(token.text or "" for token in formula.iter(f"{_M}t"))
        run = etree.Element(f"{_W}r")
        etree.SubElement(run, f"{_W}t").text = text
        _replace(formula, [run])
    for paragraph in list(root.iter(f"{_M}oMathPara")):
        _replace(paragraph, list(paragraph.iter(f"{_W}r")))
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=True)


def _level_of(style: etree._Element, by_id: dict[str | None, etree._Element]) -> int | None:
    """The outline level, from 1; None: it is no heading."""
    for _ in range(_MAX_BASES):
        told = _value(style, "pPr", "outlineLvl")
        if told.isdecimal():
            return level + 1 if (level := int(told[:9])) < _MAX_LEVEL else None
        words = _value(style, "name").lower().split()
        if len(words) == 2 and words[0] == "heading" and words[1] in map(str, range(1, _MAX_LEVEL + 1)):
            return int(words[1])
        base = by_id.get(_value(style, "basedOn"))
        if base is None:
            return None
        style = base
    return None


def _value(element: etree._Element, *path: str) -> str:
    found = element.find("/".join(f"{_W}{name}" for name in path))
    return "" if found is None else found.get(f"{_W}val") or ""


def _quoted(name: str) -> str:
    return name.replace("\\", "\\\\").replace("'", "\\'")


def _replace(element: etree._Element, children: list[etree._Element]) -> None:
    parent = element.getparent()
    if parent is None:
        return
    place = parent.index(element)
    parent.remove(element)
    for number, child in enumerate(children):
        parent.insert(place + number, child)


def _parsed(part: bytes) -> etree._Element | None:
    """The part's root; None where it is no XML, which mammoth tells."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(part, parser)
    except etree.XMLSyntaxError:
        return None
