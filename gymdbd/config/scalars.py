"""How the values of the configuration are read from YAML, a reader for each form."""

from __future__ import annotations

from gymdbd.config import values
from gymdbd.config.document import scalar

TEXT = scalar(values.text, "str")
NUMBER = scalar(values.number, "int")
BOUND = scalar(values.bound, "int", "float")
PERCENT = scalar(values.percent, "str", "int")
FLAG = scalar(values.flag, "bool")
# YAML sees a number without a unit as a number; the reader then says that the unit is missing.
DURATION = scalar(values.duration, "str", "int", "float")
INTERVAL = scalar(values.interval, "str", "int", "float")
SIZE = scalar(values.size, "str", "int", "float")
