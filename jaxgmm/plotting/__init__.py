"""Pictures of mixtures and of fits, with matplotlib: `pip install 'jaxgmm[plot]'`.

Each function draws into the `Axes` that it is given and returns them; without any it makes a figure with pyplot. A
`FitResult` or a candidate of a `Selection` may take the place of a mixture. Settings of matplotlib are not changed.

    clusters          rows in the colours of their responsibilities, with ellipses
    ellipses          regions of given probability of each component
    uncertainty       rows by the doubt about their assignment
    contours          regions of given probability of the whole mixture
    curves            densities along one column
    pairs             every pair of columns
    responsibilities  the responsibilities of one row
    criteria          the criteria of a selection, against K
    traces            the course of fits, as gaps to the best objective
    palette           the components' colours
"""

try:
    import matplotlib as _matplotlib  # noqa: F401 — only asked for here, so that the message names the extra
except ImportError as error:
    raise ImportError("jaxgmm.plotting draws with matplotlib: pip install 'jaxgmm[plot]'") from error

from jaxgmm.plotting.climbs import traces as traces
from jaxgmm.plotting.colours import palette as palette
from jaxgmm.plotting.densities import contours as contours
from jaxgmm.plotting.densities import curves as curves
from jaxgmm.plotting.panels import pairs as pairs
from jaxgmm.plotting.planes import clusters as clusters
from jaxgmm.plotting.planes import ellipses as ellipses
from jaxgmm.plotting.planes import uncertainty as uncertainty
from jaxgmm.plotting.rows import responsibilities as responsibilities
from jaxgmm.plotting.selections import criteria as criteria
