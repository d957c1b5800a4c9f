"""The CUDA path: kernels, the fused training step and the captured graph."""
