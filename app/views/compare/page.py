"""Compare: fine-tuning methods, the evidence for their differences, and its uncertainty."""

import streamlit as st

from app.views.compare import results as result_sections
from app.views.compare import uncertainty
from app.widgets import session

session.select_run(session.selected_run())  # this page shows no run, but keeps it selected for the next page
st.title("Compare", anchor=False)
st.write(
    "Does it matter *which* weights are trained? Fine-tuning methods (*arms*) are compared on the same images with the "
    "same tuning effort and several seeds."
)
bootstrap = result_sections.choose_task(result_sections.choose_table())
results = bootstrap.results
result_sections.completeness(results)
method, metric = result_sections.choose_arm_and_metric(results)
comparisons = result_sections.compare_with_all(
    bootstrap, str(results.table.folder), results.heading, len(results.records), method, metric
)

if (method, metric) == (results.method, results.metric):
    result_sections.answers(bootstrap, comparisons)
against, ranks, weights, certainty, claims, rates = st.tabs(
    ["Against the others", "Ranks", "Trained weights", "Certainty", "The paper's claims", "Learning rates"]
)
with against:
    result_sections.differences(results, method, metric, comparisons)
with ranks:
    result_sections.mean_ranks(results, method, metric)
with weights:
    result_sections.accuracy_by_weights(bootstrap, method, metric)
with certainty:
    uncertainty.evidence(results, comparisons)
with claims:
    uncertainty.paper_claims(bootstrap)
with rates:
    result_sections.learning_rates(results)
