"""All operators that can be converted, and what writes each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sardonyx.convert.tflite.emit import Op
from sardonyx.convert.tflite.ops_control import CONTROL
from sardonyx.convert.tflite.ops_custom import CUSTOM
from sardonyx.convert.tflite.ops_math import MATH
from sardonyx.convert.tflite.ops_recurrent import RECURRENT
from sardonyx.convert.tflite.ops_shapes import SHAPES
from sardonyx.convert.tflite.ops_windows import WINDOWS

OPERATORS: Mapping[str, Callable[[Op], None]] = {**MATH, **WINDOWS, **SHAPES, **RECURRENT, **CONTROL, **CUSTOM}
