"""The quality of a search: problems, a driver in virtual time, scores and pictures. One BLAS thread a process."""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # NumPy reads them when it is loaded
    os.environ.setdefault(name, "1")
