"""What MkDocs does beside its configuration: pages and links of the repository outside docs/."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
#: Files of the repository that are pages of the site too.
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, with links as from docs/."""
    for source, target in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=LINK.sub(r"](../\1", text)))
    return files


def on_page_markdown(markdown: str, config: MkDocsConfig, **_: object) -> str:
    """Lead links to pages of the site, and to the repository on the web where there is none."""

    def on_site(link: re.Match[str]) -> str:
        path = normpath(PurePosixPath("docs", link[1]))
        if path.startswith("docs/"):
            return f"]({path.removeprefix('docs/')}"
        return f"]({PAGES.get(path) or f'{config.repo_url}/blob/main/{path}'}"

    return LINK.sub(on_site, markdown)
