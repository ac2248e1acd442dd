"""``python -m secateur``, the same as the command ``secateur``."""

import sys

from secateur.cli import main

sys.exit(main())
