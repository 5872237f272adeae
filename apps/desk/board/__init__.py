"""The fieldwork board: cells, funnel, work, forecast and alarms of a study, counted whenever it is read (docs/sample.md)."""

from apps.desk.board.alarms import Alarm, alarms_of
from apps.desk.board.reading import Board, read_board

__all__ = ["Alarm", "Board", "alarms_of", "read_board"]
