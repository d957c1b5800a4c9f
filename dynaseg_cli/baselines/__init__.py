"""The methods of the paper's Table I besides DynaSeg, each from an RGB (H, W, 3) image to (H, W) int32 labels."""
