"""Report on one image, and a model's card: files to archive, send or print."""

from shpeft.reports.cards import CARD_FORMS, CardForm, card
from shpeft.reports.html import report
from shpeft.reports.pdf import as_pdf

__all__ = ["CARD_FORMS", "CardForm", "as_pdf", "card", "report"]
