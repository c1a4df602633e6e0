"""The page on which people vote. Its markup knows the study's name and instruction alone; all else its script asks for.

The policy sent with it lets it load its own style and script, talk to its own server, and nothing more: no other code runs,
nothing is fetched from elsewhere, and text never becomes markup.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from fettle.votes.records import MAX_COMMENT_CHARACTERS, MAX_RATER_CHARACTERS

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Sent with everything."""

_TEMPLATES = "templates"


def render_page(*, study: str, instruction: str | None) -> str:
    """The page as HTML text."""
    return (
        _environment()
        .get_template("vote.html.j2")
        .render(
            study=study,
            instruction=instruction,
            max_rater_characters=MAX_RATER_CHARACTERS,
            max_comment_characters=MAX_COMMENT_CHARACTERS,
        )
    )


def page_file(name: str) -> str:
    """The text of the page's style or script."""
    return files("fettle.votes").joinpath(_TEMPLATES, name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    loader = PackageLoader("fettle.votes", _TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
