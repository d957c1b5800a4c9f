"""The DynaSeg method as pure tensor code: no file, no device policy, no command line.

Equation and section numbers are those of Guermazi, Ksantini and Khan, "DynaSeg: A Deep Dynamic Fusion Method for
Unsupervised Image Segmentation Incorporating Feature Similarity and Spatial Continuity".
"""
