"""A desktop window with the positions, always current, or visibly not: PySide6 and qasync.

pip install -r requirements.txt, then python desktop.py
"""

import asyncio
import os
import sys

import qasync
from PySide6.QtWidgets import (
    QApplication,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from telecast.client import Client, State, TelecastError

COLUMNS = ("traderId", "symbol", "action", "quantity", "currentPrice", "unrealizedPnL")


class Window(QWidget):
    def __init__(self):
        super().__init__()
        self.setWindowTitle("Positions")
        self.resize(720, 320)
        self.state = QLabel("connecting")
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels(COLUMNS)
        layout = QVBoxLayout(self)
        layout.addWidget(self.state)
        layout.addWidget(self.table)

    def show_state(self, view):
        live = view.state is State.LIVE
        self.state.setText(view.state if live else f"{view.state} since {view.since:%H:%M:%S} UTC")
        self.table.setEnabled(live)  # greyed rows are the last known ones

    def show_rows(self, view):
        self.table.setRowCount(len(view))
        for number, key in enumerate(sorted(view)):
            for column, name in enumerate(COLUMNS):
                self.table.setItem(number, column, QTableWidgetItem(str(view[key][name])))


async def follow(window):
    url = os.environ.get("TELECAST_URL", "http://127.0.0.1:8080")
    try:
        async with Client(url, key=os.environ["TELECAST_KEY"], heartbeat=2) as telecast:
            positions = await telecast.view("positions")
            async for update in positions.changed:
                if update.keys or update.everything:
                    window.show_rows(positions)
                window.show_state(positions)
    except TelecastError as fault:  # a wrong key, nobody there: say so, and what to do
        window.table.setEnabled(False)
        window.state.setText(f"{fault.message} {fault.rule.advice}")


async def main(window):
    window.show()
    closed = asyncio.Event()
    QApplication.instance().lastWindowClosed.connect(closed.set)
    following = asyncio.create_task(follow(window))
    await closed.wait()
    following.cancel()
    await asyncio.wait([following])


if __name__ == "__main__":
    application = QApplication(sys.argv)
    qasync.run(main(Window()))
