"""Settings of every suite below `tests/`."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True

# `support` is imported by name from every suite, whatever pytest's import mode and working directory are.
_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)
