#!/usr/bin/env python3
"""No link of the site leads nowhere, and every name is there: check.py SITE looks up each page's links to pages, places on them,
pictures and files of the site, each function of the C API and each public name of the Python API. Exits with 1 where one is
missing."""
import ast
import html.parser
import pathlib
import re
import sys
import urllib.parse

HOUSE = pathlib.Path(__file__).resolve().parents[2]


class Page(html.parser.HTMLParser):
    """The places of a page, and where its links lead."""

    def __init__(self, path):
        super().__init__()
        self.path, self.places, self.links = path, {""}, set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (tag == "a" and name == "name"):
                self.places.add(value)
            elif name in ("href", "src") and value is not None:
                self.links.add(value)


def dead(site):
    """(page, link) of each that leads nowhere, and how many there are."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    found, count = [], 0
    for page in pages.values():
        for link in sorted(page.links):
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            path = urllib.parse.unquote(parts.path)
            target = (page.path.parent / path).resolve() if path else page.path
            place = urllib.parse.unquote(parts.fragment)
            if not target.is_file() or (target in pages and place not in pages[target].places):
                found.append((page.path.relative_to(site), link))
    return found, count, len(pages)


def c_names():
    header = (HOUSE / "lib/include/replk/replk.h").read_text(encoding="utf-8")
    return [f"c.{name}" for name in re.findall(r"^REPLK_API [^;(]*?(replk_\w+)\(", header, re.M)]


def python_names():
    for path in sorted((HOUSE / "python/replk").rglob("__init__.py")):
        module = ".".join(path.parent.relative_to(HOUSE / "python").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                yield from (f"{module}.{name}" for name in ast.literal_eval(node.value))


def main():
    site = pathlib.Path(sys.argv[1]).resolve()
    found, count, pages = dead(site)
    for page, link in found:
        print(f"{page}: {link} leads nowhere")
    names = {"c.html": c_names(), "python-api.html": list(python_names())}
    absent = [(page, name) for page in names for name in set(names[page]) - Page(site / page).places]
    for page, name in absent:
        print(f"{page}: {name} is missing")
    print(f"{pages} pages, {count} links inside, {len(found)} dead; {len(names['c.html'])} functions of C and "
          f"{len(names['python-api.html'])} names of Python, {len(absent)} missing")
    sys.exit(1 if found or absent or not all(names.values()) else 0)


if __name__ == "__main__":
    main()
