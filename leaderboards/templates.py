"""Templates of the HTML pages: text of records is text, and a name that is not given is an error."""

from __future__ import annotations

from typing import Any

import jinja2


def render(name: str, package: str = "leaderboards", **values: Any) -> str:
    """A template of a package, with `values`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name).render(**values)
