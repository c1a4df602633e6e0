"""Advice as a page that needs nothing but itself, in the style of a study's page; no script, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fettle.advice.words import ADVISED, RUNGS, about, basis, command_line
from fettle.advice_records import FirstAdvice, NextAdvice


def render_advice(advice: FirstAdvice | NextAdvice) -> str:
    """The whole advice as the text of one HTML file."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    template = "first.html.j2" if isinstance(advice, FirstAdvice) else "next.html.j2"
    return _environment().get_template(template).render(advice=advice, style=style, policy=policy)


@lru_cache(maxsize=1)
def _style() -> Markup:
    of_studies = (files("fettle.study") / "templates" / "page.css").read_text("utf-8")
    own = (files("fettle.advice") / "templates" / "advice.css").read_text("utf-8")
    return Markup(f"{of_studies}\n{own}")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fettle.advice"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"about": about, "basis": basis, "command_line": command_line}
    environment.globals |= {"advised": ADVISED, "rungs": RUNGS}
    return environment
