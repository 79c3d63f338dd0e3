#!/usr/bin/env python3
"""The pages: each is in the site's list of contents, and no link from one to a file, or to a place on a page, leads nowhere, on
GitHub as on the site (which ./run docs builds and checks as a whole)."""
import pathlib
import re
import unittest

HOUSE = pathlib.Path(__file__).resolve().parents[2]
SITE = HOUSE / "docs/site"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def pages():
    """What is read on GitHub, with what a user's own builds leave out."""
    return sorted(path for folder in (".", "docs", "examples", "examples/fashion-mnist", "models", "python")
                  for path in (HOUSE / folder).glob("*.md"))


def text_of(page):
    """Without what stands in blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def places(page):
    """The names that GitHub gives to headings."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text_of(page), re.M):
        name = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).strip().replace(" ", "-")
        found.add(name if name not in found else f"{name}-1")
    return found


def faults(page, text, home):
    """Links of a text that lies in the folder `home`."""
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, place = link.partition("#")
        target = (home / path).resolve() if path else page
        if SITE not in page.parents and target.is_dir():
            yield f"{page.relative_to(HOUSE)}: {link} is a folder, which the site has no page for"
        elif not target.is_file() and not (SITE / path).is_file():
            yield f"{page.relative_to(HOUSE)}: {link} is not there"
        elif place and place not in places(target):
            yield f"{page.relative_to(HOUSE)}: {link}: no such heading"


class Pages(unittest.TestCase):
    def test_each_is_listed(self):
        listed = set(re.findall(r"^(?:.*<)?([\w./-]+)>?$", (SITE / "index.md").read_text(), re.M))
        needed = {str(page.relative_to(HOUSE).with_suffix("")) for page in pages()} - {"python/README"}  # PyPI's page
        self.assertEqual(sorted(needed - listed), [])

    def test_links(self):
        found = [fault for page in pages() for fault in faults(page, text_of(page), page.parent)]
        found += [fault for page in sorted(SITE.glob("*.md")) for fault in faults(page, text_of(page), HOUSE)]
        self.assertEqual(found, [])

    def test_what_is_wrong_is_found(self):
        page = HOUSE / "README.md"
        for link in ("docs/nothing.md", "docs/python.md#nothing", "#nothing", "examples"):
            self.assertEqual(len(list(faults(page, f"[so]({link})", HOUSE))), 1, link)
        self.assertEqual(list(faults(page, "[so](docs/python.md#pytorch)", HOUSE)), [])


if __name__ == "__main__":
    unittest.main()
