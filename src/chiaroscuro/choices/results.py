"""What is taken and where it goes when nobody says, and the files that mark results as ours."""

DEFAULT_MODEL = "efficientnet-lite0"
DEFAULT_OUT = "chiaroscuro-out"
EXPLANATION_FILE = "explanation.json"
"""The file that marks a folder as a saved explanation."""
WHAT_IF_FILE = "what-if.json"
"""The file that marks a folder as a saved what-if."""
