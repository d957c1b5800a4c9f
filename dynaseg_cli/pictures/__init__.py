"""Pictures of label maps: colours, overlays, recordings. Arrays in, arrays and encoded pictures out."""
