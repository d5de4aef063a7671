"""The dashboard in a real browser: what an operator sees, changes and relies on. Pictures are left in target/browser/."""

import faulthandler
import re
import socket
import time
import unittest

from nim import Nim
from sidecar import ROOT, Fleet, Sidecar, until
from webdriver import Browser, Driver

PICTURES = ROOT / "target/browser"
TOKEN = "the-operators-token-0123456789"

# What a person would see: boxes that stick out of what holds them, words that are broken, and text whose contrast with what
# lies behind it is below WCAG 2.2's 4.5 (3 for large text).
MEASURES = """
const seen = node => node.offsetParent !== null && node.getClientRects().length && !node.closest('.hidden, .skip, thead, [hidden]');
const parse = colour => { const n = colour.match(/[\\d.]+/g).map(Number); return { rgb: n.slice(0, 3), a: n[3] ?? 1 }; };
const over = (top, below) => ({ rgb: top.rgb.map((c, i) => c * top.a + below.rgb[i] * (1 - top.a)), a: 1 });
const behind = node => {
  const layers = [];
  for (let at = node; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((below, top) => over(top, below), { rgb: [255, 255, 255], a: 1 });
};
const light = ({ rgb }) => {
  const [r, g, b] = rgb.map(c => c / 255).map(c => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const found = [];
for (const node of document.querySelectorAll('body *')) {
  if (!seen(node) || node.closest('svg')) continue;
  const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
  const name = `${node.tagName}#${node.id}.${node.className} "${node.textContent.trim().slice(0, 30)}"`;
  const box = node.getBoundingClientRect();
  if (box.right > innerWidth + 1 || box.left < -1) found.push(`sticks out: ${name}`);
  if (node.matches('.word, .num > span, button, .pill, .badge') && box.height > 2.2 * parseFloat(getComputedStyle(node).lineHeight || 20) && box.height > 44)
    found.push(`is broken: ${name}`);
  if (node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflowX !== 'visible' && !node.matches('.bar, input, select')) found.push(`is cut: ${name}`);
  if (!own || node.closest(':disabled, fieldset:disabled')) continue;
  const style = getComputedStyle(node);
  const back = behind(node);
  const [a, b] = [light(over(parse(style.color), back)), light(back)].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5)) found.push(`contrast ${ratio.toFixed(2)}: ${name}`);
}
if (document.documentElement.scrollWidth > innerWidth) found.push('the page scrolls sideways');
return found;
"""
AGENTS = [
    # name, priority, model, seconds between two requests
    ("planner", "urgent", "nvidia/deepseek-ai/deepseek-v4-pro", 2.0),
    ("researcher", "high", "nvidia/deepseek-ai/deepseek-v4-pro", 0.8),
    ("writer", "normal", "nvidia/qwen/qwen3.5-397b-a17b", 0.7),
    ("reviewer", "normal", "nvidia/moonshotai/kimi-k2.6", 0.6),
    *[(f"crawler-{i}", "low", "nvidia/meta/llama-4-maverick", 0.5) for i in range(4)],
    ("helper", "normal", "ollama/small", 1.5),
]


class Dashboard(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.nim = Nim(delay=0.2)
        cls.addClassCleanup(cls.nim.stop)
        cls.sidecar = Sidecar(
            upstream_url=cls.nim.url,
            rate_rpm=240,
            bucket_capacity=4,
            queue_max_size=40,
            low_priority_timeout=60,
            limit_unmatched="never",
            admin_token=TOKEN,
            agents=[
                {"name": "planner", "label": "Planning", "heartbeat_seconds": 600},
                {"name": "researcher", "label": "Research", "heartbeat_seconds": 600},
                {"name": "archivist", "label": "Archive", "heartbeat_seconds": 1},
            ],
        )
        cls.addClassCleanup(cls.sidecar.stop)
        cls.fleet = Fleet(cls.sidecar, AGENTS)
        cls.addClassCleanup(cls.fleet.stop)
        cls.driver = Driver()
        cls.addClassCleanup(cls.driver.stop)

    def open(self, language="en-US"):
        browser = Browser(self.driver, language)
        self.addCleanup(browser.close)
        browser.open(self.sidecar.base + "/api/dashboard")
        until("the first snapshot is drawn", lambda: browser.text("#effective"))
        return browser

    def assert_calm(self, browser, expected=None):
        """No error but the browser's own message for a call that was refused, and no request to anybody else."""
        for entry in browser.console():
            self.assertTrue(expected and re.search(expected, entry["message"]), entry)
        self.assert_no_foreign_requests(browser, self.sidecar)

    def assert_no_foreign_requests(self, browser, sidecar):
        for url in browser.requests():
            self.assertTrue(url.startswith((sidecar.base + "/", "data:")), url)

    def test_numbers_move(self):
        browser = self.open()
        self.assertEqual(browser.text("#health"), "Ready")
        served = lambda: sum(map(int, browser.js(
            "return [...document.querySelectorAll('#agents tbody tr')].map(row => row.lastElementChild.innerText.replace(',', ''))")))
        before = until("requests are served", served)
        until("more are", lambda: served() > before)
        until("requests wait", lambda: re.search(r"Queue · [1-9]\d* waiting", browser.text("#queue-title")))
        until("the title tells the depth", lambda: re.match(r"\(\d+\) ", browser.js("return document.title")))
        self.assertGreater(browser.js("return document.querySelectorAll('#waiting tbody tr').length"), 0)
        until("throughput is drawn", lambda: browser.js("return document.querySelectorAll('#chart-throughput rect').length"), 40)
        agents = browser.text("#agents")
        for text in ("planner", "Planning", "researcher", "archivist", "Stale", "all others"):
            self.assertIn(text, agents)
        moves = browser.js("return getComputedStyle(document.querySelector('.lanes .bar span')).transitionDuration")
        self.assertEqual(moves, "0.3s")
        self.assert_calm(browser)

    def test_the_veil_comes_with_silence_and_goes_with_the_server(self):
        browser = self.open()
        hidden = "return document.getElementById('veil').hidden"
        self.assertTrue(browser.js(hidden))
        self.sidecar.stop()
        stopped = time.monotonic()
        until("the veil comes", lambda: not browser.js(hidden), 12)
        self.assertGreater(time.monotonic() - stopped, 4, "it does not flicker over a moment's silence")
        self.assertIn("No data from the sidecar", browser.text("#veil"))
        browser.picture(PICTURES / "veil.png", whole=False)
        self.sidecar.start()
        until("the veil goes", lambda: browser.js(hidden), 15)
        self.assertEqual(browser.text("#health"), "Ready")
        self.assert_calm(browser, r"ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|503")

    def test_a_setting_is_changed_with_the_token_and_refused_without(self):
        browser = self.open()
        result = lambda text: until(text, lambda: text in browser.text("#settings-result"))
        result("The settings need the admin token.")
        self.assertTrue(browser.js("return document.getElementById('settings-fields').disabled"))
        browser.type("#token", "not-the-token")
        browser.click("#token-form button[type=submit]")
        result("the admin token is not the right one")
        browser.type("#token", TOKEN)
        browser.click("#token-form button[type=submit]")
        until("the settings are loaded", lambda: browser.value("[name=rate_rpm]") == "240")
        self.assertEqual(browser.value("[name=queue_max_size]"), "40")
        self.assertEqual(browser.value("[name=queue_full_policy]"), "passthrough")

        browser.type("[name=rate_rpm]", "90")
        browser.click("#settings-form .primary")
        result("Applied: Rate (per minute) = 90.")
        self.assertEqual(self.sidecar.status()["retreat"]["base_rpm"], 90)
        until("the page shows it", lambda: browser.text("#effective") == "90")
        browser.picture(PICTURES / "settings.png")
        # A bound below the depth: the server's own reason is shown.
        until("some wait", lambda: self.sidecar.status()["queue"]["current_size"] > 1)
        browser.type("[name=queue_max_size]", "1")
        browser.click("#settings-form .primary")
        result("queue_max_size 1 is below")
        browser.type("[name=queue_max_size]", "40")
        browser.type("[name=rate_rpm]", "240")
        browser.click("#settings-form .primary")
        result("= 240")

        kept = browser.js("return [JSON.stringify(sessionStorage), JSON.stringify(localStorage)]")
        self.assertIn(TOKEN, kept[0], "for the tab")
        self.assertNotIn(TOKEN, kept[1], "for the tab only")
        browser.reload()
        until("a reload keeps it", lambda: browser.value("[name=rate_rpm]") == "240")
        browser.click("#forget")
        self.assertNotIn(TOKEN, browser.js("return JSON.stringify(sessionStorage)"))
        self.assert_calm(browser, r"api/admin/config .*(401|403|409)")

    def test_the_language_follows_the_browser_and_the_switch(self):
        browser = self.open("zh-CN")
        self.assertEqual(browser.text("#health"), "就绪")
        self.assertIn("队列", browser.text("#queue-title"))
        self.assertEqual(browser.js("return document.documentElement.lang"), "zh-CN")
        browser.picture(PICTURES / "zh.png")
        # Latin words that stand for themselves in both languages.
        names = re.findall(r"[A-Za-z]{2,}", str(AGENTS) + "archivist Archive Planning Research")
        browser.js("document.querySelectorAll('.mono').forEach(node => node.remove())")
        text = re.sub("|".join(sorted(names, key=len, reverse=True)), " ", browser.text("main"))
        self.assertLessEqual(set(re.findall(r"[A-Za-z]{2,}", text)), {"NVIDIA", "MiB", "KiB"})
        browser.click("#language")
        self.assertEqual(browser.text("#health"), "Ready")
        browser.reload()
        until("the choice is kept", lambda: browser.text("#health") == "Ready")
        self.assert_calm(browser)

    def test_it_fits_dark_rooms_and_phones(self):
        browser = self.open()
        background = "return getComputedStyle(document.body).backgroundColor"
        light = browser.js(background)
        until("there is something to see", lambda: browser.js("return document.querySelectorAll('#chart-throughput rect').length"), 40)
        browser.picture(PICTURES / "light.png")
        browser.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        self.assertNotEqual(browser.js(background), light)
        browser.picture(PICTURES / "dark.png")
        for width in (320, 390):
            browser.cdp("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=2, mobile=True)
            until("it is laid out", lambda: browser.js("return innerWidth") == width)
            until("nothing sticks out", lambda: browser.js("return document.documentElement.scrollWidth <= innerWidth"))
        browser.picture(PICTURES / "phone.png")
        self.assert_calm(browser)

    def test_nothing_is_cut_broken_or_pale_at_any_width_in_either_light_and_language(self):
        for language in ("en-US", "zh-CN"):
            browser = self.open(language)
            until("requests wait", lambda: browser.js("return document.querySelectorAll('#waiting tbody tr').length > 3"))
            until("something is drawn", lambda: browser.js("return document.querySelectorAll('#chart-throughput rect').length"), 40)
            for scheme in ("light", "dark"):
                browser.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
                for width in (390, 768, 1280, 1920):
                    browser.cdp("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
                    until("it is laid out", lambda: browser.js("return innerWidth") == width)
                    until("it is drawn", lambda: browser.js("return document.querySelector('#chart-rate svg').clientWidth > 100"))
                    with self.subTest(language=language, scheme=scheme, width=width):
                        self.assertEqual(browser.js(MEASURES), [])
                    browser.picture(PICTURES / f"{language[:2]}-{scheme}-{width}.png")
                    if width == 390:
                        tall = browser.js("return document.documentElement.scrollHeight")
                        self.assertLess(tall, 4600, "a phone's page")

    def test_what_is_wrong_is_in_the_head_in_words_and_goes_when_it_is_over(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        sidecar = Sidecar(upstream_url=f"http://127.0.0.1:{port}/v1", rate_rpm=600, bucket_capacity=600)
        self.addCleanup(sidecar.stop)
        browser = Browser(self.driver, "en-US")
        self.addCleanup(browser.close)
        browser.open(sidecar.base + "/")
        until("the upstream is missed", lambda: "upstream unreachable" in browser.text("#problems"), 60)
        self.assertEqual(browser.text("#health"), "Not ready")
        nim = Nim(port=port)
        self.addCleanup(nim.stop)
        until("it is ready", lambda: browser.text("#health") == "Ready", 60)
        self.assertEqual(browser.text("#problems"), "")
        self.assertEqual(browser.js("return (await fetch('/favicon.ico')).headers.get('content-type')"), "image/svg+xml")

    def test_an_operator_removes_a_waiting_request_and_needs_the_token(self):
        browser = self.open()
        first = lambda: browser.js("return document.querySelector('[data-remove]')?.dataset.remove")
        gone = lambda id: browser.js("return !document.querySelector(`[data-remove='${arguments[0]}']`)", id)
        press = lambda id: browser.js("document.querySelector(`[data-remove='${arguments[0]}']`)?.click()", id)
        until("one waits", first)
        browser.type("#token", TOKEN)
        browser.click("#token-form button[type=submit]")
        until("the settings are loaded", lambda: browser.value("[name=rate_rpm]") == "240")
        for _ in range(20):
            waiting = browser.js("return [...document.querySelectorAll('[data-remove]')].at(-1)?.dataset.remove")
            press(waiting)
            press(waiting)
            if until("it is gone", lambda: gone(waiting)) and "was removed" in browser.text("#action-result"):
                break
        self.assertIn("was removed", browser.text("#action-result"))

    def test_the_keyboard_reaches_everything(self):
        browser = self.open()
        focused = "const e = document.activeElement; return e.id || e.dataset.range || e.className.baseVal || e.tagName"
        reached = []
        for _ in range(120):
            browser.press("Tab")
            name = browser.js(focused)
            if name == "BODY":
                break
            outline = browser.js("return getComputedStyle(document.activeElement).outlineStyle")
            self.assertNotEqual(outline, "none", f"{name} does not show that it has the focus")
            reached.append(name)
        for name in ("language", "300", "900", "3600", "token"):
            self.assertIn(name, reached)
        # Arrow keys read a chart's values.
        until("there is a point", lambda: browser.js("return document.querySelector('#chart-rate path')"), 30)
        browser.js("document.querySelector('#chart-rate svg').focus()")
        browser.press("Left")
        self.assertIn("Effective", browser.text("#chart-rate .tip"))
        self.assert_calm(browser)

    def test_the_history_survives_a_reload_of_the_page(self):
        browser = self.open()
        drawn = lambda: browser.js("return document.querySelector('#chart-depth .stroke-ok')?.getAttribute('d').length ?? 0")
        before = until("a few points are drawn", lambda: drawn() > 40 and drawn(), 60)
        browser.reload()
        until("they are drawn again at once", lambda: drawn() > before * 0.8, 3)
        self.assert_calm(browser)

    def test_where_clients_have_tokens_the_figures_need_one_too(self):
        sidecar = Sidecar(
            upstream_url=self.nim.url, client_tokens={"planner": "the-planners-token"}, admin_token=TOKEN)
        self.addCleanup(sidecar.stop)
        browser = Browser(self.driver, "en-US")
        self.addCleanup(browser.close)
        browser.open(sidecar.base + "/")
        until("it asks for a token", lambda: "Enter a client token" in browser.text("#health"))
        self.assertEqual(browser.text("#effective"), "")
        browser.type("#token", TOKEN)
        browser.click("#token-form button[type=submit]")
        until("the figures come", lambda: browser.text("#effective") == "40")
        self.assert_no_foreign_requests(browser, sidecar)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(600, exit=True)  # whatever hangs is told
    unittest.main(verbosity=2)
