"""Train one model across sites whose images stay where they are.

Sites agree on one support, train its k values for an epoch at a time, and the coordinator averages them. Agreement and
combination are pure functions; how messages travel is a matter of ``jobs.flower``, or of one process (``LocalSites``).
"""

from shpeft.pipeline.federated.agreement import Proposal, pooled_scores, propose
from shpeft.pipeline.federated.combination import Combined, Update, combine
from shpeft.pipeline.federated.coordinator import coordinate
from shpeft.pipeline.federated.exchange import LocalSites, Sites
from shpeft.pipeline.federated.messages import Message
from shpeft.pipeline.federated.site import Site

__all__ = [
    "Combined",
    "LocalSites",
    "Message",
    "Proposal",
    "Site",
    "Sites",
    "Update",
    "combine",
    "coordinate",
    "pooled_scores",
    "propose",
]
