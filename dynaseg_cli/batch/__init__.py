"""From paths to files: discovery, decoding, the stream through the engine, writing, resuming, reporting."""
