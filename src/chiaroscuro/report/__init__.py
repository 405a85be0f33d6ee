"""Results as figures and self-contained pages. No torch, no network."""

from chiaroscuro.report.charts import evaluation_charts
from chiaroscuro.report.evaluation import Example, evaluation_page
from chiaroscuro.report.localization import localization_page
from chiaroscuro.report.promises import promise_charts
from chiaroscuro.report.sanity import check_charts, check_page, check_section
from chiaroscuro.report.tables import Table, csv_text, latex, markdown

__all__ = [
    "Example",
    "Table",
    "check_charts",
    "check_page",
    "check_section",
    "csv_text",
    "evaluation_charts",
    "evaluation_page",
    "latex",
    "localization_page",
    "markdown",
    "promise_charts",
]
