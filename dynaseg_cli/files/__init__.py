"""Files and folders: what is read from them, what is written, and which are whose."""
