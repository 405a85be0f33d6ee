"""`python -m chiaroscuro` is the `chiaroscuro` command."""

from chiaroscuro.cli import main

if __name__ == "__main__":
    main()
