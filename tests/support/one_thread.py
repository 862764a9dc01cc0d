"""Imported before numpy: makes its BLAS compute in the thread that calls it.

It would start a thread a core, which wait for each other by spinning: beside other processes, a
test of 0.9 seconds took 19. Processes that tests start, those of xdist among them, inherit it.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
