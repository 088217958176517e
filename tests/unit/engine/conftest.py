"""Settings for tests that run the engine in this process."""

import os

# Models this small lose more to threads than they gain; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
