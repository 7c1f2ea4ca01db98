"""A desktop window with the positions, by Qt's own WebSocket: PySide6 and nothing else."""

import sys

from feed import from_environment
from PySide6.QtWidgets import (
    QApplication,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

COLUMNS = ("traderId", "symbol", "action", "quantity", "currentPrice", "unrealizedPnL")


class Window(QWidget):
    def __init__(self, feed):
        super().__init__()
        self.setWindowTitle("Positions")
        self.resize(720, 320)
        self.feed = feed
        self.state = QLabel("connecting")
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels(COLUMNS)
        layout = QVBoxLayout(self)
        layout.addWidget(self.state)
        layout.addWidget(self.table)
        feed.state.connect(self.show_state)
        feed.changed.connect(self.show_rows)
        feed.refused.connect(self.state.setText)

    def show_state(self, state):
        self.state.setText(state)
        self.table.setEnabled(state == "live")  # greyed rows are the last known ones
        self.show_rows()

    def show_rows(self):
        if self.feed.in_snapshot:
            return  # the old rows stay until the new ones are whole
        self.table.setRowCount(len(self.feed.rows))
        for number, key in enumerate(sorted(self.feed.rows)):
            for column, name in enumerate(COLUMNS):
                text = str(self.feed.rows[key][name])
                self.table.setItem(number, column, QTableWidgetItem(text))


if __name__ == "__main__":
    application = QApplication(sys.argv)
    window = Window(from_environment("positions"))
    window.show()
    window.feed.open()
    sys.exit(application.exec())
