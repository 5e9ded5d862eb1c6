"""Take the pictures of README and docs from the running portal: ``make screenshots``.

The portal should have something to show: run ``make demo`` first.  Without PORTAL_PASSWORD the
portal of this checkout is meant and admin is signed in through its database; PORTAL_URL,
PORTAL_USER and PORTAL_PASSWORD name another one.  Pages are found through the API, so that every
picture shows real objects; a page without an object to show fails the run.

What the demo does not do is done here first, if nobody has: a health check of its cluster, and a
one-click ScaleDown that looks at a machine and waits to be approved.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
# Everything as a desktop shows it, and a few pages in the other looks.
LOOKS = (
    (DESKTOP, None),
    (Look("-dark", 1440, 900, scheme="dark"), ("home", "operation")),
    (Look("-phone", 390, 844), ("home", "operation", "machines")),
    (Look("-zh", 1440, 900, language="zh-CN"), ("home", "operation")),
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
    ("start", "/operations/start/"),
    ("create-cluster", "/operations/create-cluster/"),
    ("template", "/tasks/templates/ScaleUp/"),
    ("template-edit", "/tasks/templates/new/?copy=ScaleUp"),
    ("schedule", "/operations/taskschedule/add/"),
    ("events", "/events/event/?figures=1"),
    ("key-events", "/events/event/key/"),
    ("event-streams", "/events/eventstream/"),
    ("alert-rule", "/events/alertrule/add/"),
    ("audit", "/base/auditentry/"),
    ("account", "/account/"),
)
CLUSTERS = "/api/v1/clusters/?ordering=-id"
# Control planes are registered or not, and may not be taken out; a worker is always there.
WORKERS = "/api/v1/machines/?role=Compute&state=in_service&ordering=-id"
# Objects: name of the picture, list in the API, address with the key of its first object.
OBJECTS = (
    ("cluster", CLUSTERS, "/clusters/cluster/{}/change/"),
    ("node", "/api/v1/nodes/?role=none&ordering=-id", "/clusters/node/{}/change/"),
    ("machine", WORKERS, "/machines/machine/{}/change/"),
    ("operation", "/api/v1/operations/?kind=ScaleUp&ordering=-id",
     "/operations/operation/{}/change/"),
)  # fmt: skip
# Made here when nobody has made one: name of the picture, list in the API.
HEALTH = ("health-check", "/api/v1/operations/?kind=HealthCheck&ordering=-id")
TASK = ("task", "/api/v1/auto-operation-tasks/?ordering=-id")
MADE_WITHIN = 180.0  # seconds


def session_of(user: str) -> str:
    """A session key of this checkout's own portal, as a sign-in would have made it."""
    sys.path.insert(0, str(IMAGES.parent.parent))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "beidou.settings")
    import django  # noqa: PLC0415  only needed without a password

    django.setup()
    from django.contrib.auth import get_user_model  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    client = Client()
    client.force_login(get_user_model().objects.get(username=user))
    return client.session.session_key or ""


def sign_in(page: Page, url: str, session: str) -> None:
    if session:
        page.context.add_cookies([{"name": "beidou_session", "value": session, "url": url}])
        page.goto(url)
    else:
        page.goto(f"{url}/login/")
        page.fill("[name=username]", os.environ.get("PORTAL_USER", "admin"))
        page.fill("[name=password]", os.environ["PORTAL_PASSWORD"])
        page.click("#login-form button[type=submit].submit-row")
    page.wait_for_load_state()
    if "/login/" in page.url:
        sys.exit(f"{url} refuses this sign-in.")


def pages(page: Page, url: str) -> Iterator[tuple[str, str]]:
    """(name, address) of everything there is to show."""
    yield from LISTS
    for name, api, address in OBJECTS:
        yield name, address.format(newest(page, f"{url}{api}")["id"])
    yield from made(page, url)


def made(page: Page, url: str) -> Iterator[tuple[str, str]]:
    """(name, address) of a health check that has ended and of a task that waits for its
    approval."""
    cluster = newest(page, f"{url}{CLUSTERS}")["id"]
    name, api = HEALTH
    if not rows_of(page, f"{url}{api}"):
        wish = {"kind": "HealthCheck", "cluster": cluster}
        post(page, f"{url}/api/v1/operations/", wish)
    health = until(page, f"{url}{api}", lambda row: row["finished_at"] is not None)
    yield name, f"/operations/operation/{health['id']}/change/#results"
    name, api = TASK
    if not rows_of(page, f"{url}{api}"):
        machine = newest(page, f"{url}{WORKERS}&cluster={cluster}")["id"]
        wish = {"template": "ScaleDown", "cluster": cluster, "machines": [machine]}
        post(page, f"{url}/api/v1/auto-operation-tasks/", wish)
    task = until(
        page, f"{url}{api}", lambda row: row["finished_at"] is not None or row["waiting_for"]
    )
    yield name, f"/operations/autooperationtask/{task['id']}/change/"


def rows_of(page: Page, address: str) -> list[dict[str, Any]]:
    answer = page.request.get(address)
    if not answer.ok:
        sys.exit(f"{address} answered {answer.status}: {answer.text()}")
    return list(answer.json()["results"])


def newest(page: Page, address: str) -> dict[str, Any]:
    rows = rows_of(page, address)
    if not rows:
        sys.exit(f"Nothing to show at {address}; run `make demo` first.")
    return rows[0]


def post(page: Page, address: str, body: dict[str, Any]) -> None:
    token = next(each["value"] for each in page.context.cookies() if each["name"] == "beidou_csrf")
    answer = page.request.post(
        address, data=body, headers={"X-CSRFToken": token, "Referer": address}
    )
    if not answer.ok:
        sys.exit(f"{address} answered {answer.status}: {answer.text()}")


def until(page: Page, address: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The newest row there, as soon as the condition holds for it."""
    deadline = time.monotonic() + MADE_WITHIN
    while not condition(row := rows_of(page, address)[0]):
        if time.monotonic() > deadline:
            sys.exit(f"{address}: nothing to show within {MADE_WITHIN:.0f} s.")
        page.wait_for_timeout(500)
    return row


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


def visit(
    browser: Browser, url: str, look: Look, names: tuple[str, ...] | None, session: str
) -> None:
    """Take the named pages, all of them without names, in this look."""
    context = browser.new_context(
        viewport={"width": look.width, "height": look.height},
        color_scheme="dark" if look.scheme == "dark" else "light",
        locale=look.language,
    )
    page = context.new_page()
    if names is None:
        page.goto(f"{url}/login/")
        take(page, IMAGES / f"sign-in{look.suffix}.png")
    sign_in(page, url, session)
    for name, address in pages(page, url):
        if names is not None and name not in names:
            continue
        answer = page.goto(f"{url}{address}")
        if answer is None or not answer.ok:
            sys.exit(f"{name}: {address} answered {answer.status if answer else 'nothing'}")
        take(page, IMAGES / f"{name}{look.suffix}.png")
    context.close()


def main() -> int:
    url = os.environ.get("PORTAL_URL", "http://127.0.0.1:8000").rstrip("/")
    session = "" if "PORTAL_PASSWORD" in os.environ else session_of("admin")
    program = next((path for path in CHROMIUM if Path(path).exists()), None)
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        for look, names in LOOKS:
            visit(browser, url, look, names, session)
        browser.close()
    print(f"{len(list(IMAGES.glob('*.png')))} pictures in {IMAGES}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
