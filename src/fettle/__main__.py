"""`python -m fettle`: the `fettle` command where its script is not on the path."""

from fettle.cli.main import main

if __name__ == "__main__":
    main()
