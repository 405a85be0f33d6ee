"""Plain rows and pictures to self-contained HTML. No torch, no network, no second look."""

from chiaroscuro.report.pages import GalleryEntry, explanation_page, gallery_page

__all__ = ["GalleryEntry", "explanation_page", "gallery_page"]
