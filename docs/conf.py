"""The documentation's site: `make docs` writes it to build/docs."""

import re
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent

project = "qhrtem_jax"
author = "the authors of qhrtem_jax"
release = metadata.version("qhrtem_jax")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode"]
exclude_patterns = ["result.schema.json", "_templates"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"qhrtem_jax {release}"

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

nb_execution_mode = "off"  # `make notebooks` runs them
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True


PAGES = {
    "README.md": "readme",
    "benchmarks/README.md": "benchmarks",
    "CHANGELOG.md": "changes",
    "CONTRIBUTING.md": "contributing",
}
"""Files of the repository that are pages of the site, too."""


def bring_pages(app, config):
    """Write them beside the others, with links that hold there."""
    folder = HERE / "generated"
    folder.mkdir(exist_ok=True)
    for source, name in PAGES.items():
        text = (HERE.parent / source).read_text(encoding="utf-8")
        for other, page in PAGES.items():
            text = text.replace(f"]({other})", f"]({page}.md)")
        text = re.sub(r"\]\((?:\.\./)?docs/", "](../", text)
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def as_restructured_text(app, what, name, obj, options, lines):
    """Docstrings are written as plain text with `names` in backticks and **headings**: the signs
    that mean something else to Sphinx are escaped, indented lines are kept as they are."""
    found, literal = [], False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not literal:
            found += ["", "::", ""]
        elif literal and not indented and line.strip():
            found.append("")
        literal = indented or (literal and not line.strip())
        found.append(line if indented else _escaped(line))
    lines[:] = found


def _escaped(line: str) -> str:
    parts = re.split(r"(`[^`]+`|\*\*[^*]+\*\*)", line)
    return "".join(
        f"`{part}`"
        if part.startswith("`")
        else part
        if part.startswith("**") and part.endswith("**") and len(part) > 4
        else re.sub(r"([|*_\\])", r"\\\1", part)
        for part in parts
    )


def setup(app):
    app.connect("config-inited", bring_pages)
    app.connect("autodoc-process-docstring", as_restructured_text)
