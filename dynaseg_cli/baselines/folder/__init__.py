"""Other methods that give a whole folder one label space, one in a file."""
