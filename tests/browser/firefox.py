# SPDX-License-Identifier: GPL-2.0-only
"""Firefox, headless, by WebDriver BiDi: as much of it as the page's test needs.

Playwright drives only a Firefox of its own, and other drivers bring a program along that Debian
lacks. See https://w3c.github.io/webdriver-bidi/.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from conftest import until
from websockets.sync.client import ClientConnection, connect

ANSWER_S = 60
NO_WIRES = {
    # Nothing is fetched: updates, lists of bad sites, a portal's page.
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.downloads.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
}


class Firefox:
    """A browser with one page."""

    def __init__(self, program: str, profile: Path, width: int, height: int) -> None:
        prefs = (f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in NO_WIRES.items())
        (profile / "user.js").write_text("\n".join(prefs))
        self._log = (profile / "log").open("w+")
        command = [program, "--headless", "--no-remote", "--remote-debugging-port=0"]
        size = ["--width", str(width), "--height", str(height)]
        self._process = subprocess.Popen(
            [*command, *size, "--profile", profile], stdout=self._log, stderr=self._log
        )
        self._numbers = itertools.count(1)
        self._socket: ClientConnection | None = None

    def __enter__(self) -> Self:
        """Begin a session."""
        try:
            self._socket = connect(f"{self._address()}/session", max_size=None)
            self._ask("session.new", capabilities={})
            self._context = self._ask("browsingContext.getTree")["contexts"][0]["context"]
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._ask("browser.close")
        self._socket.close()
        self._process.wait(ANSWER_S)
        self._log.close()

    def _address(self) -> str:
        def said() -> re.Match[str] | None:
            assert self._process.poll() is None, Path(self._log.name).read_text()
            return re.search(r"BiDi listening on (ws://\S+)", Path(self._log.name).read_text())

        return until(said, "Firefox listens")[1]

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(ANSWER_S))
            if answer.get("id") != number:
                continue
            assert answer["type"] == "success", answer
            return answer["result"]

    def goto(self, address: str) -> None:
        """Load a page."""
        self._ask("browsingContext.navigate", context=self._context, url=address, wait="complete")

    def evaluate(self, function: str, *arguments: Any) -> Any:
        """Call a function in the page; what it returns must have a text as JSON."""
        called = self._ask(
            "script.callFunction",
            functionDeclaration=f"async () => JSON.stringify([await ({function})"
            f"(...{json.dumps(arguments)})])",
            awaitPromise=True,
            target={"context": self._context},
        )
        assert called["type"] == "success", called
        return json.loads(called["result"]["value"])[0]

    def point(self, *actions: dict[str, Any]) -> None:
        """Use the mouse."""
        mouse = {"type": "pointer", "id": "mouse", "actions": actions}
        self._ask("input.performActions", context=self._context, actions=[mouse])

    def press(self, key: str) -> None:
        """Press a key."""
        actions = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        keys = {"type": "key", "id": "keys", "actions": actions}
        self._ask("input.performActions", context=self._context, actions=[keys])
