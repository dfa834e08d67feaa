"""Tasks on more than one machine: an objective whose tasks lie on the workers of a Dask cluster.

Needs Dask, from the extra ``distributed``. When it pays, what a call costs and how to start a
cluster: ``docs/distributed.md``.
"""

from .fleet import Fleet as Fleet
from .fleet import FleetGradient as FleetGradient

__all__ = ["Fleet", "FleetGradient"]
