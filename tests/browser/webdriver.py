"""Just enough of a WebDriver client (https://www.w3.org/TR/webdriver/) to drive Chromium, on the standard library alone."""

import base64
import json
import re
import subprocess
import threading
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key under which WebDriver names an element
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Left": "\ue012", "Space": " "}
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-dev-shm-usage", "--hide-scrollbars",
]


class Driver:
    """The chromedriver process; gives sessions."""

    def __init__(self):
        self.process = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            found = re.search(r"started successfully on port (\d+)", line)
            if found:
                break
        else:
            raise AssertionError("chromedriver did not start")
        self.base = f"http://127.0.0.1:{found[1]}"
        self.reader = threading.Thread(target=self.process.stdout.read, daemon=True)
        self.reader.start()

    def call(self, method, path, body=None):
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=10)
        self.reader.join()
        self.process.stdout.close()


class Browser:
    """One browser with an empty profile."""

    def __init__(self, driver, language="en-US"):
        options = {
            "binary": "/usr/bin/chromium",
            "args": [*ARGUMENTS, "--window-size=1280,1000", f"--lang={language}"],
            "prefs": {"intl.accept_languages": language},
            # Only there to list the requests; the page's timings are not looked at.
            "perfLoggingPrefs": {"enableNetwork": True, "enablePage": False},
        }
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        session = driver.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.driver, self.path = driver, f"/session/{session['sessionId']}"

    def call(self, method, path, body=None):
        return self.driver.call(method, self.path + path, body)

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def reload(self):
        self.call("POST", "/refresh")

    def js(self, script, *arguments):
        """What a function with this body returns in the page."""
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def cdp(self, command, **parameters):
        """A command of the DevTools protocol."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def element(self, selector):
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        return f"/element/{found[ELEMENT]}"

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).innerText.trim()", selector)

    def value(self, selector):
        return self.js("return document.querySelector(arguments[0]).value", selector)

    def click(self, selector):
        self.call("POST", self.element(selector) + "/click")

    def type(self, selector, text):
        element = self.element(selector)
        self.call("POST", element + "/clear")
        self.call("POST", element + "/value", {"text": text})

    def press(self, key):
        """Presses and releases a key wherever the focus is."""
        value = KEYS.get(key, key)
        actions = [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def console(self):
        """What the console has got since the last call."""
        return [entry for entry in self.call("POST", "/se/log", {"type": "browser"}) if entry["level"] != "INFO"]

    def requests(self):
        """The addresses that were asked for since the last call."""
        events = [json.loads(e["message"])["message"] for e in self.call("POST", "/se/log", {"type": "performance"})]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def picture(self, path, whole=True):
        """Leaves a picture of the page, the whole of it or what the window shows."""
        size = self.js("return [innerWidth, arguments[0] ? document.documentElement.scrollHeight : innerHeight]", whole)
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        shot = self.cdp("Page.captureScreenshot", format="png", captureBeyondViewport=whole, clip=clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        self.call("DELETE", "")
