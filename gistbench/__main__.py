"""``python -m gistbench``."""

from gistbench.cli import main

if __name__ == "__main__":
    main()
