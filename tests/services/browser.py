"""Drives a headless Chromium over its DevTools protocol, through a pair of pipes: no port, and no further package."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.services.servers import MissingError

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
MISSING = "Chromium is missing: run `make services`, or install the package `chromium`"
TIMEOUT_SECONDS = 60.0
_END = b"\0"  # of a message

# What `Input.dispatchKeyEvent` needs besides the name of a key.
_KEY_CODES = {
    "Enter": 13,
    "Escape": 27,
    "ArrowDown": 40,
    "ArrowUp": 38,
    "Backspace": 8,
    "End": 35,
    "Home": 36,
    "Tab": 9,
}
_KEY_TEXT = {"Enter": "\r"}


class BrowserError(Exception):
    """The browser refused a command, or a script of the page raised."""


class Page:
    """A tab of the browser.

    Attributes:
      dialogs: messages of dialogs that scripts have opened.
      requests: addresses that were requested.
      errors: exceptions and errors that the console of the page shows.
    """

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser = browser
        self._session = session
        self.dialogs: list[str] = []
        self.requests: list[str] = []
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> Any:
        """Sends a command of the protocol and returns its result."""
        return self._browser.command(method, self._session, parameters)

    def on_event(self, method: str, parameters: Mapping[str, Any]) -> None:
        if method == "Page.javascriptDialogOpening":
            self.dialogs.append(parameters["message"])
            self._browser.send("Page.handleJavaScriptDialog", self._session, {"accept": True})
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")

    def open(self, path: Path) -> None:
        """Opens a file from the disk, and waits until it is loaded."""
        self.command("Page.navigate", url=path.as_uri())
        self.wait_for("document.readyState === 'complete'")

    def reload(self) -> None:
        self.evaluate("window.isOld = true")
        self.command("Page.reload")
        self.wait_for("!window.isOld && document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Returns the value of an expression of JavaScript, also of a promise.

        Raises:
          BrowserError: it raised.
        """
        done = self.command(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            allowUnsafeEvalBlockedByCSP=False,
        )
        if "exceptionDetails" in done:
            raise BrowserError(json.dumps(done["exceptionDetails"])[:1000])
        return done["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Waits until an expression is true."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() > deadline:
                raise BrowserError(f"not true after {TIMEOUT_SECONDS:g} s: {condition}; {self.errors}")
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        """Presses keys, one after the other: letters, or names such as "Enter"."""
        for key in keys:
            text = _KEY_TEXT.get(key, key if len(key) == 1 else "")
            code = _KEY_CODES.get(key, ord(key.upper()) if len(key) == 1 else 0)
            fields = {"key": key, "windowsVirtualKeyCode": code}
            self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **fields)
            self.command("Input.dispatchKeyEvent", type="keyUp", **fields)

    def choose_file(self, selector: str, path: Path) -> None:
        """Chooses a file in an input element."""
        root = self.command("DOM.getDocument")["root"]["nodeId"]
        node = self.command("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.command("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        """Makes the page light or dark."""
        self.command(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def save_downloads(self, folder: Path) -> None:
        self._browser.command(
            "Browser.setDownloadBehavior", None, {"behavior": "allow", "downloadPath": str(folder)}
        )

    def screenshot(self, path: Path, **options: Any) -> None:
        data = self.command("Page.captureScreenshot", **options)["data"]
        path.write_bytes(base64.b64decode(data))


class Browser:
    """A connection to a running browser. Not thread-safe."""

    def __init__(self, commands: int, messages: int) -> None:
        self._commands = commands
        self._messages = messages
        self._buffer = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    def new_page(self) -> Page:
        target = self.command("Target.createTarget", None, {"url": "about:blank"})["targetId"]
        attached = self.command("Target.attachToTarget", None, {"targetId": target, "flatten": True})
        session = attached["sessionId"]
        page = self._pages[session] = Page(self, session)
        return page

    def send(self, method: str, session: str | None, parameters: Mapping[str, Any]) -> int:
        """Sends a command without waiting for its result, and returns its number."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + _END
        while data:
            data = data[os.write(self._commands, data) :]
        return self._number

    def command(self, method: str, session: str | None, parameters: Mapping[str, Any]) -> Any:
        """Sends a command and returns its result.

        Raises:
          BrowserError: the browser refused it.
        """
        number = self.send(method, session, parameters)
        while True:
            message = self._receive()
            if message.get("id") == number:
                if "error" in message:
                    raise BrowserError(f"{method}: {message['error']}")
                return message["result"]
            page = self._pages.get(message.get("sessionId", ""))
            if page and "method" in message:
                page.on_event(message["method"], message["params"])

    def _receive(self) -> Any:
        while _END not in self._buffer:
            data = os.read(self._messages, 1 << 16)
            if not data:
                raise BrowserError("the browser ended")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(_END)
        return json.loads(message)


@contextlib.contextmanager
def browser(*flags: str) -> Iterator[Browser]:
    """Runs a headless browser with a profile of its own.

    Raises:
      MissingError: it is not installed.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise MissingError(MISSING)
    with contextlib.ExitStack() as stack:
        profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        for_browser, commands = os.pipe()
        messages, of_browser = os.pipe()
        stack.callback(os.close, commands)
        stack.callback(os.close, messages)
        arguments = [program, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        arguments += [
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            *flags,
        ]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")  # which root can't have
        # The browser reads from descriptor 3 and writes to descriptor 4.
        shell = f'exec "$@" 3<&{for_browser} 4>&{of_browser}'
        process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *arguments],
            pass_fds=(for_browser, of_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
        )
        os.close(for_browser)
        os.close(of_browser)
        stack.callback(process.wait, 30)
        stack.callback(process.terminate)
        yield Browser(commands, messages)
