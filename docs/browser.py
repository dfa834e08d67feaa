"""The site as a browser sees it: no error, nothing from outside, search, narrow screens.

    python docs/browser.py docs/_build/html [folder for screenshots]

Needs Chromium (Debian: ``apt install chromium``) and the package playwright, which drives it. Where
one of them is missing it says so, and nothing is checked.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

#: one of each kind
PAGES = (
    "index.html", "start.html", "choose.html", "recipes.html", "coming-from.html",
    "derivation.html", "factored.html", "closed-form.html", "benchmarks/table.html",
    "fertility.html", "gallery/index.html", "gallery/adapt_to_a_wave.html", "reference/index.html",
    "reference/generated/fastmaml.MAML.html", "decisions/index.html", "contributing.html",
)  # fmt: skip
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that does not say what it serves."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def listen(page: Any, url: str, wrong: list[str]) -> list[str]:
    """Note what goes wrong in a page; the list that is returned holds where it is."""
    here = [""]

    def note(text: str, wanted: bool = False) -> None:
        if not wanted:
            wrong.append(f"{here[0]}: {text}")

    page.on("console", lambda m: note(m.text, m.type != "error"))
    page.on("pageerror", lambda error: note(str(error)))
    page.on("requestfailed", lambda r: note(f"{r.url} failed"))
    page.on("request", lambda r: note(f"asks for {r.url}", r.url.startswith((url, "data:"))))
    page.on("response", lambda r: note(f"{r.url} is {r.status}", r.status < 400))
    return here


def looks(browser: Any, url: str, shots: Path | None) -> list[str]:
    """What is wrong with the site, as seen from this browser."""
    wrong: list[str] = []
    for width, scheme in ((1400, "light"), (1400, "dark"), (375, "light")):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        here = listen(page, url, wrong)
        for name in PAGES:
            here[0] = f"{name}, {width} px, {scheme}"
            page.goto(url + name, wait_until="networkidle")
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                wrong.append(f"{here[0]}: is {wide} px wide")
            left = page.evaluate("document.querySelectorAll('mjx-merror').length")
            if left:
                wrong.append(f"{here[0]}: {left} equations with an error")
            if shots:
                page.screenshot(path=shots / f"{name.replace('/', '-')}-{width}-{scheme}.png")
        page.close()
    page = browser.new_page()
    page.goto(url + "search.html?q=meta_gradient", wait_until="networkidle")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    results = page.locator("#search-results li a").all_inner_texts()
    if not any("meta_gradient" in text for text in results):
        wrong.append(f"search: meta_gradient is not among {results[:5]}")
    page.goto(url, wait_until="networkidle")
    page.get_by_role("link", name="The derivation").first.click()
    page.wait_for_url("**/derivation.html")
    if page.locator("mjx-container").count() < 50:
        wrong.append("derivation: the equations are not there")
    page.get_by_role("link", name="Every public name").or_(
        page.get_by_role("link", name="Reference")
    ).first.click()
    page.wait_for_url("**/reference/index.html")
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    for _ in range(3):  # automatic, light, dark: as the button goes round
        page.locator(".theme-toggle:visible").first.click()
        if page.evaluate(background) != before:
            break
    else:
        wrong.append("the button for the dark mode changes nothing")
    page.close()
    return wrong


def main(site: Path, shots: Path | None) -> int:
    """Look at the site; return whether something is wrong."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        print("not looked at in a browser: that takes Chromium and pip install playwright")
        return 0
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            wrong = looks(browser, f"http://127.0.0.1:{server.server_port}/", shots)
            browser.close()
        server.shutdown()
    print(
        "\n".join(wrong or [f"{len(PAGES)} pages, wide, dark and narrow, and the search: no error"])
    )
    return int(bool(wrong))


if __name__ == "__main__":
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    sys.exit(main(Path(sys.argv[1]).resolve(), folder))
