"""``python -m cpsc_train`` is the ``cpsc`` command."""

import sys

from cpsc_train.cli import main

sys.exit(main())
