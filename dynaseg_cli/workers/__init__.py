"""The processes that segment images: a pool that hands out jobs, workers on this machine or a Ray cluster."""
