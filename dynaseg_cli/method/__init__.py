"""The DynaSeg method as pure tensor code, without files, choice of device, or command line.

Equation and section numbers are those of Guermazi, Ksantini and Khan, "DynaSeg: A Deep Dynamic Fusion Method for
Unsupervised Image Segmentation Incorporating Feature Similarity and Spatial Continuity".
"""
