"""Take the pictures of README and docs from a running portal: ``make screenshots``.

PORTAL_URL, PORTAL_USER and PORTAL_PASSWORD name the portal and who signs in there; the portal
should have something to show, for example after ``make demo``.  Pages are found through its API, so
that every picture shows real objects; a page without an object to show is left out and said.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).resolve().parent / "images"
LARGEST = 200 * 1024
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")


@dataclass(frozen=True)
class Look:
    """How a page is looked at; ``suffix`` ends the names of its pictures."""

    suffix: str
    width: int
    height: int
    scheme: str = "light"
    language: str = "en"


DESKTOP = Look("", 1440, 900)
LOOKS = (
    DESKTOP,
    Look("-dark", 1440, 900, scheme="dark"),
    Look("-1280", 1280, 800),
    Look("-phone", 390, 844),
    Look("-zh", 1440, 900, language="zh-CN"),
)
# Lists: name of the picture, address.
LISTS = (
    ("home", "/"),
    ("clusters", "/clusters/cluster/"),
    ("adopt", "/clusters/cluster/add/"),
    ("nodes", "/clusters/node/"),
    ("grants", "/clusters/clustergrant/"),
    ("machines", "/machines/machine/"),
    ("drift", "/machines/drift/"),
    ("operations", "/operations/operation/"),
    ("audit", "/base/auditentry/"),
    ("account", "/account/"),
)
# Objects: name of the picture, list in the API, address with the key of the newest object.
OBJECTS = (
    ("cluster", "/api/v1/clusters/", "/clusters/cluster/{}/change/"),
    ("node", "/api/v1/nodes/", "/clusters/node/{}/change/"),
    ("machine", "/api/v1/machines/", "/machines/machine/{}/change/"),
    ("operation", "/api/v1/operations/", "/operations/operation/{}/change/"),
)


def sign_in(page: Page, url: str) -> None:
    page.goto(f"{url}/login/")
    page.fill("[name=username]", os.environ.get("PORTAL_USER", "admin"))
    page.fill("[name=password]", os.environ["PORTAL_PASSWORD"])
    page.click("#login-form button[type=submit].submit-row")
    page.wait_for_load_state()
    if "/login/" in page.url:
        sys.exit(f"{url} refuses the user and password of PORTAL_USER and PORTAL_PASSWORD.")


def pages(page: Page, url: str) -> Iterator[tuple[str, str]]:
    """(name, address) of everything there is to show."""
    yield from LISTS
    for name, api, address in OBJECTS:
        answer = page.request.get(f"{url}{api}?ordering=-id")
        rows = answer.json().get("results", []) if answer.ok else []
        if rows:
            yield name, address.format(rows[0]["id"])
        else:
            print(f"{name}: nothing to show at {api}")


def take(page: Page, path: Path) -> None:
    """One picture; of a page full of text only the upper part, so that it stays small."""
    page.wait_for_load_state("load")
    page.wait_for_timeout(500)  # fonts, and what scripts draw
    size = page.viewport_size or {"width": 1440, "height": 900}
    for share in (1.0, 0.75, 0.5):
        clip = {"x": 0, "y": 0, "width": size["width"], "height": int(size["height"] * share)}
        page.screenshot(path=path, clip=clip)  # type: ignore[arg-type]
        if path.stat().st_size <= LARGEST:
            return
    sys.exit(f"{path.name} has more than {LARGEST // 1024} KiB even when half of it is shown.")


def visit(browser: Browser, url: str, look: Look) -> None:
    context = browser.new_context(
        viewport={"width": look.width, "height": look.height},
        color_scheme="dark" if look.scheme == "dark" else "light",
        locale=look.language,
    )
    page = context.new_page()
    page.goto(f"{url}/login/")
    take(page, IMAGES / f"sign-in{look.suffix}.png")
    sign_in(page, url)
    for name, address in pages(page, url):
        answer = page.goto(f"{url}{address}")
        if answer is None or not answer.ok:
            print(f"{name}: {address} answered {answer.status if answer else 'nothing'}")
            continue
        take(page, IMAGES / f"{name}{look.suffix}.png")
    context.close()


def main() -> int:
    if "PORTAL_PASSWORD" not in os.environ:
        print(
            "Say PORTAL_PASSWORD, and PORTAL_URL and PORTAL_USER when they are not the usual ones."
        )
        return 2
    url = os.environ.get("PORTAL_URL", "http://127.0.0.1:8000").rstrip("/")
    program = next((path for path in CHROMIUM if Path(path).exists()), None)
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        for look in LOOKS:
            visit(browser, url, look)
        browser.close()
    print(f"{len(list(IMAGES.glob('*.png')))} pictures in {IMAGES}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
