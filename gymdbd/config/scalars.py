"""The readers of plain values in YAML, one for each type."""

from __future__ import annotations

from gymdbd.config import values
from gymdbd.config.document import scalar

TEXT = scalar(values.text, "str")
NUMBER = scalar(values.number, "int")
BOUND = scalar(values.bound, "int", "float")
PERCENT = scalar(values.percent, "str", "int")
FLAG = scalar(values.flag, "bool")
# To YAML, a duration or size without its unit is a number; the error then asks for the unit.
DURATION = scalar(values.duration, "str", "int", "float")
INTERVAL = scalar(values.interval, "str", "int", "float")
SIZE = scalar(values.size, "str", "int", "float")
