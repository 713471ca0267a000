"""Kernels: the arithmetic of one chunk of rows. `expectation` chooses between them.

`whitened` is exact and serves every density; `quadratic` takes half the operations where its error is small.
"""

from jaxgmm.data.kernels import quadratic as quadratic
from jaxgmm.data.kernels import whitened as whitened
