"""Clean notebooks as the repository keeps them: ``python notebooks/clean.py [FILE ...]`` (none named: all that lie here)."""

import sys
from pathlib import Path

from interp.cli.notebooks import cleaned, load, save

if __name__ == "__main__":
    for path in map(Path, sys.argv[1:] or sorted(Path(__file__).parent.glob("*.ipynb"))):
        save(cleaned(load(path)), path)
