"""``Taps``: what one run edits and captures, and the rule by which a tensor passes a site."""

from collections.abc import Collection, Mapping
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.backend import Edit
from interp.models.sites import Site


class Taps:
    """The edits and captures of one run; ``taps(site, tensor)`` is called with the tensor of every site that is passed.

    Attributes:
        captured: what the network went on with at each site of ``capture``.
        pre: the residual stream that entered each block, by the block's address (for ``resid_mid`` and shapes).
        cores: the taps inside each attention module, by module.
        stored: attention modules whose k and v were tapped on their way into the key-value cache.
        paused: whether an edit is being computed, so that its own tensor operations are not taken for the network's.
    """

    def __init__(self, edits: Mapping[Site, Edit], capture: Collection[Site]):
        self.edits, self.capture = dict(edits), frozenset(capture)
        self.sites = self.capture | self.edits.keys()
        self.captured: dict[Site, Tensor] = {}
        self.reached: set[Site] = set()
        self.pre: dict[int, Tensor] = {}
        self.cores: dict[nn.Module, Any] = {}
        self.stored: set[nn.Module] = set()
        self.paused = False

    def wants(self, *sites: Site) -> bool:
        """Whether any of the sites is edited or captured."""
        return not self.sites.isdisjoint(sites)

    def __call__(self, site: Site, tensor: Tensor) -> Tensor:
        """The tensor that the network goes on with: edited where asked, kept where asked."""
        if site not in self.sites:
            return tensor
        self.reached.add(site)
        if site in self.edits:
            tensor = self._edited(site, tensor)
        if site not in self.capture:
            return tensor
        self.captured[site] = tensor
        return tensor.clone()    # the captured tensor lies upstream, and nothing later overwrites it

    def _edited(self, site: Site, tensor: Tensor) -> Tensor:
        version = None if tensor.is_inference() else tensor._version
        paused, self.paused = self.paused, True
        try:
            new = self.edits[site](tensor)
        finally:
            self.paused = paused
        if not isinstance(new, Tensor) or new.shape != tensor.shape:
            got = f"shape {list(new.shape)}" if isinstance(new, Tensor) else type(new).__name__
            raise InterpError(f"edit the {site}", f"the edit returned {got} where {list(tensor.shape)} stood",
                              "return a tensor of the same shape")
        if version is not None and tensor._version != version:
            raise InterpError(f"edit the {site}", "the edit wrote into the tensor it was given",
                              "return a new tensor, for instance by cloning first")
        return new.to(dtype=tensor.dtype, device=tensor.device)

    def unreached(self) -> list[Site]:
        """Sites that were asked for and that the forward pass did not come by."""
        return sorted(self.sites - self.reached)


ACTIVE: ContextVar[Taps | None] = ContextVar("the taps of the run in progress", default=None)
"""Set while a run is in progress, per thread; a run inside an edit of another run sets its own and puts this back."""
