"""Kernels: the arithmetic of one chunk of rows, behind one signature.

`prepare(mixture)`, `joint(prepared, columns)`, `moments(prepared, seen, responsibilities, statistic)` and
`colour(prepared, moments, statistic)`. Whitened residuals are the one kernel so far.
"""

from jaxgmm.kernels.whitened import Joint as Joint
from jaxgmm.kernels.whitened import Prepared as Prepared
from jaxgmm.kernels.whitened import colour as colour
from jaxgmm.kernels.whitened import joint as joint
from jaxgmm.kernels.whitened import moments as moments
from jaxgmm.kernels.whitened import prepare as prepare
