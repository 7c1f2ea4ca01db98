"""A table that is always current, by Qt's own WebSocket: PySide6 and nothing else.

pip install PySide6, then python feed.py; window.py shows it in a window.
"""

import json
import os
import random
import re
import sys

from PySide6.QtCore import QCoreApplication, QObject, QTimer, QUrl, QUrlQuery, Signal
from PySide6.QtNetwork import QNetworkRequest
from PySide6.QtWebSockets import QWebSocket


class Feed(QObject):
    """The rows of one channel, by key. They are how it is only while the state is `live`."""

    changed = Signal(str, str)  # op and key; `snapshot` and the reason: all may have changed
    state = Signal(str)  # loading, live, stale, disconnected
    refused = Signal(str)  # the end: coming back unchanged would give the same

    def __init__(self, url, key, channel):
        super().__init__()
        self.address = QUrl(url.replace("http", "ws", 1) + "/ws/telemetry")
        self.key, self.channel = key, channel
        self.rows = {}
        self.since = ""  # the last position that was handled; it belongs to `rows`
        self.pause, self.wait = 500, 0  # ms
        self.last_word, self.final = "", ""
        self.socket = QWebSocket()
        self.socket.textMessageReceived.connect(self.take)
        self.socket.errorOccurred.connect(self.lose)
        self.socket.disconnected.connect(self.lose)
        # Three heartbeats without a message: the line is dead, though no error shows.
        self.silence = QTimer(self, singleShot=True, interval=6_000)
        self.silence.timeout.connect(self.lose)
        self.again = QTimer(self, singleShot=True)
        self.again.timeout.connect(self.open)

    def open(self):
        query = QUrlQuery()
        query.addQueryItem("channels", self.channel)
        query.addQueryItem("heartbeat", "2")
        if self.since:
            query.addQueryItem("since", self.since)
        self.address.setQuery(query)
        request = QNetworkRequest(self.address)
        request.setRawHeader(b"X-API-Key", self.key.encode())
        self.epoch, self.in_snapshot, self.wait = "", False, 0
        self.silence.start()
        self.socket.open(request)

    def lose(self):
        if self.again.isActive() or self.final:
            return
        # Qt says in this text alone why a handshake was refused, and gives no status for a 401.
        why = self.socket.errorString()
        status = re.search(r"status code: (4\d\d)", why)
        if "WWW-Authenticate" in why:
            self.final = "refused with 401: the key is not valid"
        elif status and status[1] != "429":
            self.final = f"refused with {status[1]}"
        else:
            self.final = self.last_word
        self.silence.stop()
        if not self.final:
            spread = random.uniform(1, 1.5)  # noqa: S311 - not all come back at once
            self.again.start(int(max(self.wait, self.pause) * spread))
            self.pause = min(2 * self.pause, 20_000)
        self.socket.abort()
        self.state.emit("disconnected")
        if self.final:
            self.refused.emit(self.final)

    def take(self, text):
        message = json.loads(text)
        match message["type"]:
            case "welcome":
                self.epoch = message["head"].partition(":")[0]
                self.silence.setInterval(3000 * message["heartbeatSeconds"])
                self.state.emit("loading")
            case "snapshot":  # what does not follow does not exist
                self.in_snapshot, self.since = True, ""
                self.rows.clear()
                self.changed.emit("snapshot", message["reason"])
            case "resume":
                self.in_snapshot = False
            case "event":
                op, key = message["op"], message["key"]
                if op == "upsert":
                    self.rows[key] = message["data"]
                else:
                    self.rows.pop(key, None)
                if not self.in_snapshot:
                    self.since = f"{self.epoch}:{message['seq']}"
                self.changed.emit(op, key)
            case "live":
                self.in_snapshot, self.since, self.pause = False, message["position"], 500
                self.state.emit("live")
            case "heartbeat" if not self.in_snapshot:
                self.since = message["position"]
            case "stale":
                self.state.emit("stale")
            case "fresh":
                self.state.emit("live")
            case "notice":
                self.wait = message.get("retryAfterMs") or 0
                if not message["retryable"]:
                    self.last_word = f"{message['code']}: {message['message']}"
        self.silence.start()


def from_environment(channel):
    url = os.environ.get("TELECAST_URL", "http://127.0.0.1:8080")
    return Feed(url, os.environ["TELECAST_KEY"], channel)


if __name__ == "__main__":
    application = QCoreApplication(sys.argv)
    feed = from_environment("market-data")
    feed.changed.connect(lambda op, key: print(op, key, flush=True))
    feed.state.connect(lambda state: print(state, flush=True))
    feed.refused.connect(lambda why: (print(why, file=sys.stderr), application.exit(1)))
    feed.open()
    sys.exit(application.exec())
