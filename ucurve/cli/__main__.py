"""`python -m ucurve.cli` is `ucurve`."""

import sys

from ucurve.cli import main

sys.exit(main())
