"""Compare: which way to fine-tune is better, on what evidence, and how sure that is."""

import certainty
import comparing
import shared
import streamlit as st

shared.look_at(shared.current_run())  # shown nowhere here, but it stays chosen from page to page
st.title("Compare", anchor=False)
st.write(
    "Is it worth choosing *which* weights to train? Ways to fine-tune, called *arms*, were run on the same images with "
    "the same effort, several times each. A tie is called a tie here."
)
bootstrap = comparing.pick_table()
results = bootstrap.results
comparing.standing(results)
method, metric = comparing.choices(results)
duels = comparing.duels_of(bootstrap, str(results.table.folder), len(results.records), method, metric)

if (method, metric) == (results.method, results.plan.report.metric):
    comparing.answers(bootstrap, duels)
comparing.ranks(results, method, metric)
comparing.differences(results, method, metric, duels)
comparing.weights(bootstrap, method, metric)
certainty.doubt(results, duels)
certainty.paper(bootstrap)
comparing.rates(results)
