"""Attribution: what each trained weight did to the score of one image, and what more or less fine-tuning would do."""

import streamlit as st

from app.views.attribution import weight_attribution
from app.views.diagnose import image, model_tasks, saliency
from app.widgets import session

st.title("Attribution", anchor=False)
st.write(
    "The fine-tuned model differs from the pretrained one in a few weights. How much did each of them change the score "
    "of an image?"
)
left, right = st.columns([3, 1], gap="large")
with left:
    run = session.choose_finished_run()
    case = image.choose_image(run)
if case is None:
    st.info("Upload an image, or choose one of the run's test images.")
else:
    right.image(case.image, width="stretch", alt="The image")
    weight_attribution.weight_attribution(run, case, saliency.diagnose_image(run, case))
model_tasks.cancel_unrequested()
