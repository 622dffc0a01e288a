"""Types of the files given, by magika."""

import json
import sys
from pathlib import Path

from magika import Magika

magika = Magika()
results = magika.identify_paths([Path(name) for name in sys.argv[1:]])
print(json.dumps([[result.output.label, result.score] for result in results]))
