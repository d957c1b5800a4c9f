"""Label maps as people look at them: colours, overlays, animations. Arrays in, arrays and encoded pictures out."""
