"""`python -m beam_dedup`, for a checkout; the documented command is `dedup`."""

import sys

from beam_dedup.cli import main

sys.exit(main())
