"""Plain rows and pictures to self-contained HTML. No torch, no network, no second look."""

from chiaroscuro.report.charts import evaluation_charts
from chiaroscuro.report.comparison import comparison_page
from chiaroscuro.report.evaluation import Example, evaluation_page
from chiaroscuro.report.localization import localization_page
from chiaroscuro.report.pages import GalleryEntry, explanation_page, gallery_page
from chiaroscuro.report.promises import promise_charts
from chiaroscuro.report.sanity import check_charts, check_page, check_section
from chiaroscuro.report.tables import Table, csv_text, latex, markdown
from chiaroscuro.report.what_if import what_if_page

__all__ = [
    "Example",
    "GalleryEntry",
    "Table",
    "check_charts",
    "check_page",
    "check_section",
    "comparison_page",
    "csv_text",
    "evaluation_charts",
    "evaluation_page",
    "explanation_page",
    "gallery_page",
    "latex",
    "localization_page",
    "markdown",
    "promise_charts",
    "what_if_page",
]
