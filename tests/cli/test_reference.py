"""The page about the command line is made from the commands."""

from pathlib import Path

from chiaroscuro.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def test_the_reference_is_fresh():
    made = "python -m chiaroscuro.cli.reference > docs/reference/cli.md"
    assert PAGE.read_text() == reference(), f"stale: {made}"
