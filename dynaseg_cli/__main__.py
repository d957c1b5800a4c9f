"""``python -m dynaseg_cli``."""

from .cli import main

main()
