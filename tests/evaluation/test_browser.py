"""The report in a real browser: it renders, fits the window, complains about nothing and fetches nothing."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.browser

QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--virtual-time-budget=2000",
)
LIGHT, DARK = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"
MEASURE = """<script>addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")].filter(e =>
    !e.closest(".scroll") && !e.matches(".window img") && e.getBoundingClientRect().right > innerWidth + 1).map(
    e => e.tagName + "." + e.className);
  document.title = JSON.stringify({scroll: document.documentElement.scrollWidth, window: innerWidth, wide,
    requests: performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:")),
    charts: document.querySelectorAll("svg[role=img]").length,
    broken: [...document.images].filter(i => !i.naturalWidth).length});
});</script>"""


@pytest.fixture(scope="module")
def browse(chromium, tmp_path_factory):
    """Open a page with some flags; returns the DOM or what was asked for, and the console's lines."""

    def open_page(page: Path, *flags: str) -> tuple[str, list[str]]:
        profile = tmp_path_factory.mktemp("profile")
        command = [chromium, *QUIET, f"--user-data-dir={profile}", *flags, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return open_page


@pytest.fixture
def page(finished) -> Path:
    return finished[1] / "report.html"


def test_the_report_fits_desktop_and_phone_without_console_errors_or_requests(page, browse, tmp_path):
    probe = tmp_path / "probe.html"
    probe.write_text(
        page.read_text(encoding="utf-8").replace("</body>", MEASURE + "</body>"), encoding="utf-8"
    )
    for width in (1280, 500):  # headless Chromium opens no window narrower than 500
        dom, console = browse(probe, f"--window-size={width},900", "--dump-dom")
        assert not console
        measured = re.search(r"<title>(.*?)</title>", dom).group(1)
        assert f'"window":{width}' in measured
        assert f'"scroll":{width}' in measured, measured
        assert '"wide":[]' in measured, measured
        assert '"requests":[]' in measured, measured
        assert '"charts":7' in measured
        assert '"broken":0' in measured


def test_the_report_fits_a_phone_of_360_pixels(page, browse, tmp_path):
    frame = tmp_path / "phone.html"
    inner = page.read_text(encoding="utf-8").replace(
        "</body>", MEASURE.replace("document.title =", "parent.document.title =") + "</body>"
    )
    (tmp_path / "inner.html").write_text(inner, encoding="utf-8")
    frame.write_text('<iframe src="inner.html" style="width:360px;height:800px;border:0"></iframe>')
    dom, console = browse(frame, "--window-size=800,900", "--dump-dom", "--allow-file-access-from-files")
    assert not console
    measured = re.search(r"<title>(.*?)</title>", dom).group(1)
    assert '"window":360' in measured
    assert '"scroll":360' in measured, measured
    assert '"wide":[]' in measured, measured


@pytest.mark.parametrize(("scheme", "is_dark"), [(LIGHT, False), (DARK, True)])
def test_the_report_is_painted_in_light_and_in_dark(page, browse, tmp_path, scheme, is_dark):
    from matplotlib.image import imread

    shot = tmp_path / "shot.png"
    browse(page, scheme, f"--screenshot={shot}", "--window-size=1280,1600")
    image = imread(shot)[..., :3]
    background = image[:3, :3].mean()
    assert (background < 0.2) if is_dark else (background > 0.9)
    ink = np.abs(image - image[0, 0]).max(-1) > 0.3
    assert 0.005 < ink.mean() < 0.6
    assert ink[:800].any()
    assert ink[800:].any()
    saturation = image.max(-1) - image.min(-1)
    assert (saturation > 0.3).mean() > 1e-4  # lines have colours in both schemes


SCRUB = """<script>addEventListener("load", () => {
  const film = document.querySelector(".film"), slider = film.querySelector("input");
  const strip = film.querySelector("img"), place = () => Math.round(strip.getBoundingClientRect().left -
    strip.parentElement.getBoundingClientRect().left);
  const width = strip.parentElement.getBoundingClientRect().width, seen = [place()];
  slider.focus();
  slider.value = 3;
  slider.dispatchEvent(new Event("input"));
  seen.push(place());
  film.querySelector("button").click();
  setTimeout(() => { document.title = JSON.stringify({seen, width, playing: film.querySelector("button").textContent,
    focused: document.activeElement === slider, label: slider.labels[0].textContent,
    text: slider.getAttribute("aria-valuetext"), shown: film.querySelector("output").textContent,
    frame: Number(slider.value), frames: Number(slider.max) + 1}); }, 600);
});</script>"""


def test_films_scrub_and_play_and_say_which_time_they_show(page, browse, tmp_path):
    probe = tmp_path / "scrub.html"
    probe.write_text(page.read_text(encoding="utf-8").replace("</body>", SCRUB + "</body>"), encoding="utf-8")
    dom, console = browse(probe, "--window-size=1280,900", "--dump-dom")
    assert not console
    found = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", dom).group(1)))
    assert found["frames"] == 8
    assert found["seen"][0] == 0
    assert found["seen"][1] == pytest.approx(-3 * found["width"], abs=1.5)
    assert found["playing"] == "Pause"
    assert found["frame"] in (5, 4)  # a quarter of a second each
    assert found["text"] == found["shown"] == f"t + {0.125 * (found['frame'] + 1):.4g}"
    assert found["focused"]
    assert found["label"] == "lead time"


def test_a_console_error_and_a_request_would_be_noticed(browse, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(f'<script>console.error("oh")</script><img src="https://example.org/a.png">{MEASURE}')
    dom, console = browse(page, "--dump-dom")
    assert any("oh" in line for line in console)
    measured = re.search(r"<title>(.*?)</title>", dom).group(1)
    assert '"requests":["https://example.org/a.png"]' in measured
    assert '"broken":1' in measured
