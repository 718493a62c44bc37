"""From a map of attention over an image's patches to a mask and a crop of the image, to ask about once more.

Two published ways to choose what is kept, on the map that ``relative_attention`` gives:

* ``kept_regions``: the top share of the map, in connected regions, of which the best few stay (CARVE, focusing by
  contrastive attention; text and code, github.com/YuyaoGe/CARVE, disagree, see there), and ``box_of`` them;
* ``sharpest_window``: the window that stands out most from its neighbours (MLLMs know where to look, Zhang et al. 2025).

Neither shows that what is cut away does not matter: ask the model about the crop and about as large a crop from elsewhere.

    maps = image_maps(relative_attention(model, specific, general=general, **CARVE), layers=range(20, 26))
    mask = kept_regions(maps[0])
    pixels = cropped(masked(image, mask), box_of(mask), of=mask.shape)
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.scores import HeadScores
from interp.measures.attention_rows import patch_grid

Floats = NDArray[np.float64]
Box = tuple[int, int, int, int]
"""First row, first column, and the row and the column after the last."""
RATIOS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
"""Sizes of windows that are tried, as multiples of the first (as published)."""


def image_maps(scores: HeadScores, *, layers: Iterable[int] | None = None, grid: tuple[int, int] | None = None) -> Floats:
    """Maps [prompt, row, column] ≥ 0 from the values [layer, head, prompt, token] of ``relative_attention``: the mean over
    heads, added up over ``layers`` (None: all; published, of some 30 layers: CARVE 20 to 25, MLLMs know 14). A patch without
    a value (NaN) counts as 0.

    ``grid``: rows and columns of patches; None: a square, and what is left over stands before it.
    """
    if scores.dims[3:] != ("token",):
        raise InterpError("lay scores out as an image", f"their further axes are {list(scores.dims[3:])}",
                          "use relative_attention with value='map'")
    chosen = range(scores.n_layers) if layers is None else list(layers)
    if not chosen or not all(0 <= layer < scores.n_layers for layer in chosen):
        raise InterpError(f"add up the layers {list(chosen)}", f"there are {scores.n_layers}", "name some of 0 to "
                          f"{scores.n_layers - 1}")
    rows, columns, apart = patch_grid(scores.values.shape[3], grid)
    flat = np.nan_to_num(scores.values[list(chosen)]).mean(1).sum(0)
    return flat[:, apart:].reshape(-1, rows, columns)


def enlarged(found: Floats, size: tuple[int, int]) -> Floats:
    """A map [row, column] at the resolution of the image (height, width), bilinear: CARVE's code chooses pixels there."""
    given = torch.as_tensor(found, dtype=torch.float64)[None, None]
    return torch.nn.functional.interpolate(given, size=size, mode="bilinear")[0, 0].numpy()


def kept_regions(found: Floats, *, share: float = 0.2, regions: int = 3, number: Literal["regions", "at least"] = "regions",
                 by: Literal["attention", "size", "large enough"] = "attention", smallest: float = 0.001,
                 corners: bool = False) -> NDArray[np.bool_]:
    """Which patches of a map [row, column] stay: those of the top ``share``, in the best connected regions.

    Where many patches are level at the threshold, all of them stay; a map that is level everywhere keeps the whole image.

    Args:
        share: p; a patch stays if its value reaches the (1 − p) quantile.
        regions: K, how many connected regions stay (released default: 3).
        number: K ``regions``, as in the text; ``at least``, as in the code: max(K, ⌊p · number of regions⌋).
        by: which: those of the largest sum of ``attention`` (released default) or ``size``; or all that are ``large
            enough``, ``smallest`` of what the threshold left (the code's first version).
        corners: whether patches that touch in a corner are connected (released: no).
    """
    if not 0 < share <= 1 or regions < 1:
        raise InterpError(f"keep {regions} regions of the top {share:.0%}", "a share lies above 0 and up to 1, one region "
                          "is the least", "use share=0.2 and regions=3, say")
    if not np.isfinite(found).all() or found.ndim != 2:
        raise InterpError(f"choose from a map of shape {found.shape}", "it is a finite value for each row and column",
                          "use one of image_maps")
    mask = found >= np.quantile(found, 1 - share)
    labelled, count = ndimage.label(mask, np.ones((3, 3)) if corners else None)
    each = np.arange(1, count + 1)
    sizes = ndimage.sum_labels(mask, labelled, each)
    if by == "large enough":
        return np.isin(labelled, each[sizes >= int(mask.sum() * smallest)])
    worth = sizes if by == "size" else ndimage.sum_labels(found, labelled, each)
    most = regions if number == "regions" else max(regions, int(count * share))
    return np.isin(labelled, each[np.argsort(-worth, kind="stable")[:most]])


def box_of(mask: NDArray[np.bool_]) -> Box:
    """The smallest box around what is kept; the whole image where nothing is."""
    if not mask.any():
        return 0, 0, *mask.shape
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def sharpest_window(found: Floats, window: tuple[int, int], ratios: Iterable[float] = RATIOS) -> Box:
    """The box of patches whose sum exceeds the mean of the (up to four) windows one patch beside it by most per patch.

    Windows of ``window`` (rows, columns of patches) times each ratio; of each size, the one with the largest sum takes part,
    the first from the left of equal ones. The whole image where the first size covers it. Published: a window of the size
    that the image encoder takes, in the pixels of the original image, cut at pixels where ours is cut at patches.
    """
    sizes = np.array(found.shape)
    best, most = None, -np.inf
    for at, ratio in enumerate(ratios):
        rows, columns = (int(side) for side in np.minimum((np.array(window) * ratio + 1e-9).astype(int), sizes))
        if rows < 1 or columns < 1:
            raise InterpError(f"slide a window of {rows} × {columns} patches", "it has no patch", "use a larger one")
        if (rows, columns) == found.shape:
            if at == 0:
                break
            continue
        sums = np.lib.stride_tricks.sliding_window_view(found, (rows, columns)).sum((2, 3))
        column, row = np.unravel_index(sums.T.argmax(), sums.T.shape)
        beside = [sums[i, j] for i, j in ((row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column))
                  if 0 <= i < sums.shape[0] and 0 <= j < sums.shape[1]]
        sharp = (sums[row, column] - np.mean(beside)) / (rows * columns)
        if sharp > most:
            best, most = (int(row), int(column), int(row) + rows, int(column) + columns), sharp
    return best or (0, 0, *found.shape)


def masked(pixels: Tensor, mask: NDArray[np.bool_], fill: float = 0.0) -> Tensor:
    """Pixels [..., height, width] with what is not kept set to ``fill`` (of normalised pixels, 0 is the mean colour; the
    released code blackens the image before it is normalised)."""
    kept = torch.nn.functional.interpolate(torch.as_tensor(mask)[None, None].double(), size=pixels.shape[-2:])[0, 0] > 0
    return torch.where(kept.to(pixels.device), pixels, fill)


def cropped(pixels: Tensor, box: Box, *, of: tuple[int, int], shape: Literal["stretched", "kept"] = "stretched") -> Tensor:
    """What pixels [prompt, channel, height, width] show in ``box``, given in patches of a grid ``of`` rows and columns,
    enlarged (bicubic) to the whole image, or to cover it with the crop's own shape (``kept``, as released)."""
    height, width = pixels.shape[-2:]
    top, left, bottom, right = box
    if not (0 <= top < bottom <= of[0] and 0 <= left < right <= of[1]):
        raise InterpError(f"crop an image of {of[0]} × {of[1]} patches to {box}", "the box is not within it",
                          "give (first row, first column, row and column after the last)")
    part = pixels[..., round(top * height / of[0]) : round(bottom * height / of[0]),
                  round(left * width / of[1]) : round(right * width / of[1])]
    scale = max(height / part.shape[-2], width / part.shape[-1])
    size = (height, width) if shape == "stretched" else tuple(int(side * scale) for side in part.shape[-2:])
    return torch.nn.functional.interpolate(part, size=size, mode="bicubic", antialias=True)
