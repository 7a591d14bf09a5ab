"""A real Chromium without a window, driven from Python through a pipe by the DevTools protocol: no package, no port, no driver.

    with Browser(width, height, dark) as browser:
        browser.open(path)
        browser.evaluate("document.title")
        browser.press("n")

Messages are JSON with a zero byte behind each. `console` gathers errors and warnings of the page, `requests` the addresses it asked for.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

EXECUTABLE = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"]
CODES = {"ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Escape": 27, "Tab": 9, "Home": 36, "End": 35}


class Browser:
    """One page of one browser."""

    def __init__(self, width=1280, height=800, dark=False):
        self.width, self.height, self.dark = width, height, dark
        self.console, self.requests, self.number, self.buffer = [], [], 0, b""

    def __enter__(self):
        self.profile = tempfile.mkdtemp(prefix="tinyllm-chromium-")
        out_read, out_write = os.pipe()
        in_read, in_write = os.pipe()
        command = [EXECUTABLE, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"]
        line = 'exec "$@" 3<&%d 4>&%d 2>/dev/null' % (out_read, in_write)
        self.process = subprocess.Popen(["bash", "-c", line, "chromium", *command], pass_fds=(out_read, in_write), stdout=subprocess.DEVNULL)
        os.close(out_read)
        os.close(in_write)
        self.to, self.back = out_write, in_read
        self.session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.resize(self.width, self.height)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if self.dark else "light"}])
        return self

    def __exit__(self, *exception):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.to)
        os.close(self.back)
        shutil.rmtree(self.profile, ignore_errors=True)

    def send(self, method, **parameters):
        """Call a method of the protocol and wait for its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _receive(self):
        while b"\0" not in self.buffer:
            part = os.read(self.back, 1 << 20)
            if not part:
                raise RuntimeError("Chromium has gone")
            self.buffer += part
        text, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(text)
        kind, content = message.get("method"), message.get("params", {})
        if kind == "Runtime.exceptionThrown":
            details = content["exceptionDetails"]
            self.console.append(details.get("exception", {}).get("description") or details["text"])
        elif kind == "Runtime.consoleAPICalled" and content["type"] in ("error", "warning"):
            self.console.append(str(content["args"]))
        elif kind == "Log.entryAdded" and content["entry"]["level"] in ("error", "warning"):
            self.console.append(content["entry"]["text"])
        elif kind == "Network.requestWillBeSent":
            self.requests.append(content["request"]["url"])
        return message

    def resize(self, width, height):
        """The window's size in CSS pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def open(self, path, fragment=""):
        """Load a file; returns the seconds until it has drawn."""
        start = time.perf_counter()
        self.send("Page.navigate", url=Path(path).resolve().as_uri() + fragment)
        while self.evaluate("document.readyState") != "complete":
            time.sleep(0.01)
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        return time.perf_counter() - start

    def evaluate(self, expression):
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description"))
        return answer["result"].get("value")

    def press(self, *keys):
        """Press keys, as from a keyboard."""
        for key in keys:
            text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
            code = CODES.get(key, ord(key.upper()) if len(key) == 1 else 0)
            self.send("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
            self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text):
        """Type text into what has the focus."""
        self.send("Input.insertText", text=text)

    def hover(self, selector):
        """Move the mouse onto the middle of an element."""
        box = self.evaluate(f"(() => {{ const r = document.querySelector({json.dumps(selector)}).getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()")
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])

    def screenshot(self, path):
        """Write a PNG of the window."""
        Path(path).write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
