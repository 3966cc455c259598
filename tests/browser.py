"""A headless Chromium that tests drive as a person would, over its debugging pipe."""

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

Json = dict[str, Any]

PATIENCE = 30  # seconds to wait for an answer of the browser


class Tab:
    """A tab of the browser, and what it said or asked for since it was opened."""

    def __init__(self, browser: "Browser", session: str):
        self.browser = browser
        self.session = session
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **parameters: Any) -> Json:
        return self.browser.call(method, self.session, **parameters)

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page, or of the promise that it gives."""
        done = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def rest(self) -> None:
        """Wait until two frames were drawn, and until the address was changed."""
        self.ask(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => "
            "setTimeout(done, 350))))"
        )

    def centre(self, selector: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """A place within an element, which is scrolled into view."""
        box = self.ask(
            f"(() => {{ const one = document.querySelector({selector!r}); "
            "one.scrollIntoView({ block: 'center' }); const b = one.getBoundingClientRect(); "
            "return [b.left, b.top, b.width, b.height]; })()"
        )
        return box[0] + across * box[2], box[1] + down * box[3]

    def drag(self, selector: str, *places: tuple[float, float], pressed: str = "") -> None:
        """Press the pointer at the first place within an element, and let it go at the last.

        With ``pressed``, it is pressed in the middle of that other element first.
        """
        if pressed:
            self._mouse("mousePressed", *self.centre(pressed))
        for i, place in enumerate(places):
            x, y = self.centre(selector, *place)
            kind = "mouseMoved" if i or pressed else "mousePressed"
            self._mouse(kind, x, y)
        self._mouse("mouseReleased", x, y)
        self.rest()

    def point(self, selector: str, across: float, down: float) -> None:
        """Move the pointer over a place within an element, without pressing it."""
        x, y = self.centre(selector, across, down)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.rest()

    def click(self, selector: str) -> None:
        self.drag(selector, (0.5, 0.5))

    def _mouse(self, kind: str, x: float, y: float) -> None:
        buttons = 0 if kind == "mouseReleased" else 1
        self.call(
            "Input.dispatchMouseEvent",
            type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=1,
        )  # fmt: skip

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )  # fmt: skip
        self.rest()


class Browser:
    def __init__(self, read: int, write: int):
        self.answers = os.fdopen(read, "rb")
        self.commands = os.fdopen(write, "wb")
        self.count = 0
        self.tabs: dict[str, Tab] = {}
        self.left = b""

    def call(self, method: str, session: str = "", **parameters: Any) -> Json:
        self.count += 1
        command: Json = {"id": self.count, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        self.commands.write(json.dumps(command).encode() + b"\0")
        self.commands.flush()
        while True:
            message = self._message()
            if message.get("id") == self.count:
                assert "error" not in message, (method, message["error"])
                result: Json = message["result"]
                return result
            self._note(message)

    def open(self, path: Path, width: int = 1200, hash_: str = "", dark: bool = False) -> Tab:
        """A tab with a page from disk, whose scripts have drawn what they draw, if it has any."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self.tabs[session] = Tab(self, session)
        for domain in ("Runtime", "Log", "Network", "Page"):
            tab.call(f"{domain}.enable")
        tab.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        tab.call("Emulation.setEmulatedMedia", features=features)
        tab.call("Page.navigate", url=path.resolve().as_uri() + hash_)
        deadline = time.monotonic() + 60
        ready = "document.readyState === 'complete' && !document.querySelector('#live[aria-busy]')"
        while not tab.ask(ready):
            assert time.monotonic() < deadline, tab.complaints
            time.sleep(0.05)
        tab.rest()
        return tab

    def _message(self) -> Json:
        while b"\0" not in self.left:
            assert select.select([self.answers], [], [], PATIENCE)[0], "the browser says nothing"
            part = os.read(self.answers.fileno(), 1 << 16)
            assert part, "the browser has ended"
            self.left += part
        line, self.left = self.left.split(b"\0", 1)
        message: Json = json.loads(line)
        return message

    def _note(self, message: Json) -> None:
        tab = self.tabs.get(message.get("sessionId", ""))
        if tab is None:
            return
        match message["method"]:
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                tab.complaints.append(json.dumps(message["params"]))
            case "Network.requestWillBeSent":
                tab.requests.append(message["params"]["request"]["url"])


@contextmanager
def started(profile: Path) -> Iterator[Browser]:
    assert CHROMIUM is not None
    (read_command, write_command), (read_answer, write_answer) = os.pipe(), os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    options += ["--disable-dev-shm-usage", "--disable-background-networking"]
    options += [f"--user-data-dir={profile}", "--remote-debugging-pipe"]
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{read_command} 4>&{write_answer}', "-", CHROMIUM, *options],
        pass_fds=[read_command, write_answer],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_command)
    os.close(write_answer)
    browser = Browser(read_answer, write_command)
    try:
        yield browser
        browser.call("Browser.close")
        process.wait(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
        browser.commands.close()
        browser.answers.close()
