"""How the templates of pages are read."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """The environment of all templates: what they are given is escaped, and a name that is not given is an error."""
    return Environment(
        loader=PackageLoader("xlt.verify", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
