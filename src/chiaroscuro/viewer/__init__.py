"""The viewer: one script for the report page, the live page and the notebook, and its feed."""

from chiaroscuro.viewer.feed import Feed as Feed
from chiaroscuro.viewer.feed import make_feed as make_feed
from chiaroscuro.viewer.page import script as script
from chiaroscuro.viewer.page import style as style
from chiaroscuro.viewer.page import viewer_html as viewer_html
from chiaroscuro.viewer.page import viewer_page as viewer_page
