"""Property tests draw the same examples every time, so that green stays green.

``HYPOTHESIS_PROFILE=explore pytest`` draws new ones: run that now and then, and turn what it finds into a fixed test.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("steady", derandomize=True, print_blob=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
