"""Fits the project's pages into the site: the README is its home, nodes have pages, other files are links to the repository."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parents[2]
_PAGES = {
    "README.md": "index.md",
    "docs/README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Pages of the site that have another name or place in the repository."""
_NODES = "js/docs/"
_LINK = re.compile(r"(\]\()([^)#]+)(#[^)]*)?(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not in the folder of documentation."""
    readme = files.get_file_from_path("README.md")
    if readme:
        files.remove(readme)
    nodes = {path.relative_to(_ROOT).as_posix(): f"nodes/{path.name}" for path in sorted((_ROOT / _NODES).glob("*.md"))}
    for source, place in (_PAGES | nodes).items():
        text = (_ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=_relink(text, source, place, config.repo_url or "")))
    for path in sorted((_ROOT / "docs").glob("*.md")):
        if path.name != "README.md":
            old = files.get_file_from_path(path.name)
            if old:
                files.remove(old)
            source = f"docs/{path.name}"
            text = _relink(path.read_text(encoding="utf-8"), source, path.name, config.repo_url or "")
            files.append(File.generated(config, path.name, content=text))
    return files


def _relink(text: str, source: str, place: str, repository: str) -> str:
    """The text of a page with links that fit its place on the site."""

    def fit(found: re.Match[str]) -> str:
        target, anchor = found[2], found[3] or ""
        if "://" in target:
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in _PAGES:
            at = _PAGES[path]
        elif path.startswith(_NODES):
            at = f"nodes/{posixpath.basename(path)}"
        elif path.startswith("docs/"):
            at = path.removeprefix("docs/")
        else:
            return f"{found[1]}{repository}/blob/main/{path}{anchor}{found[4]}"
        return f"{found[1]}{posixpath.relpath(at, posixpath.dirname(place) or '.')}{anchor}{found[4]}"

    return _LINK.sub(fit, text)
