"""One image and one classifier or several: explain, change, compare, replay; and whole folders."""

from chiaroscuro.explanations.change import what_if as what_if
from chiaroscuro.explanations.comparison import compare as compare
from chiaroscuro.explanations.comparison import replay as replay
from chiaroscuro.explanations.comparison import what_if_detail as what_if_detail
from chiaroscuro.explanations.folder import Outcome as Outcome
from chiaroscuro.explanations.folder import PhotoJob as PhotoJob
from chiaroscuro.explanations.folder import explain_files as explain_files
from chiaroscuro.explanations.single import explain as explain
from chiaroscuro.explanations.smallest import smallest_edit as smallest_edit
