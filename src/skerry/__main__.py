"""python -m skerry: the command line.

Runs in: every verb (hot).   Imports: cli.main.
Source:  style.md 3.
Never:   is what gets installed: the launcher starts the interpreter isolated, `python -m` does not.
"""

from skerry.cli.main import run

if __name__ == "__main__":
    run()
