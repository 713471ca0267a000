"""How the libraries' worker threads wait; imported before any of them.

OpenMP's and OpenBLAS's workers spin for up to 0.1 s after their work is done: on the next contender's cores, and, where
anybody else is on the machine, into one another at every barrier (pomegranate was 100 times slower so). Put to
sleep sooner they cost wake-ups of microseconds. Both settings are read when the libraries load.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "22")
SETTINGS = {name: os.environ[name] for name in ("OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT")}
