"""The command line: one file a subcommand, each of which parses, calls the library and prints."""

from chiaroscuro.cli.app import main

__all__ = ["main"]
