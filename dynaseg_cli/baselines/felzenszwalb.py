"""Graph-based segmentation: regions merge while their border is no stronger than the differences inside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError


def segment_by_felzenszwalb(
    image: NDArray[np.uint8], *, scale: float, sigma: float, min_size: int
) -> NDArray[np.int32]:
    """Segment an RGB (H, W, 3) uint8 image by a minimum spanning forest over its pixels: (H, W) int32 labels, 0..R-1.

    Felzenszwalb and Huttenlocher 2004, "Efficient Graph-Based Image Segmentation",
    doi:10.1023/B:VISI.0000022288.19776.77, by scikit-image, which is deterministic.

    Parameters
    ----------
    scale : k of the paper, for colours in 0..255: the greater, the larger the regions.
    sigma : standard deviation in pixels of the Gaussian that smooths the image first; 0 for none.
    min_size : regions of fewer pixels are merged into a neighbour.

    Raises
    ------
    UsageError
        If scikit-image is not installed.
    """
    try:
        from skimage.segmentation import felzenszwalb  # noqa: PLC0415 (an optional extra)
    except ModuleNotFoundError as error:
        raise UsageError("the felzenszwalb baseline needs scikit-image: pip install 'dynaseg[baselines]'") from error
    labels: NDArray[np.int32] = felzenszwalb(image, scale=scale, sigma=sigma, min_size=min_size).astype(np.int32)
    return labels
