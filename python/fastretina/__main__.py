"""``python -m fastretina``, where the command is not on the path."""

import sys

from fastretina.cli import main

sys.exit(main())
