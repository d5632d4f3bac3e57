"""What stands behind a diagnosis: validation counts, threshold, prediction set, abstaining, and novelty."""

import streamlit as st

from shpeft.diagnosis import Diagnosis


def show(found: Diagnosis) -> None:
    """Everything that the validation images say of this image; only a sentence where they were not kept."""
    if found.novelty is not None and found.novelty.alarm:
        st.warning(
            "This image looks unlike the training images: more unusual than "
            f"{found.novelty.percentile:.0%} of the validation images. The model may be wrong without showing it.",
            icon=":material/visibility_off:",
        )
    judged = found.judgement
    if judged is None:
        st.caption(
            "The model's probabilities. They are not calibrated: 90 % does not mean right in 9 of 10 such cases. The "
            "page Evaluate can calibrate them."
        )
        return
    if judged.abstains:
        st.warning("The model abstains: it is too unsure of this image. Leave it to people.", icon=":material/block:")
    behind = judged.evidence[found.classes.index(found.predicted)]
    st.caption(
        f"Of {behind.observed.cases} validation images with a probability of {found.predicted} from {behind.low:.0%} "
        f"to {behind.high:.0%}, **{behind.observed.count}** had it.",
        help="Probabilities are calibrated on the validation images. The fewer such images there are, the less a "
        f"probability says: with these, the share lies between {behind.observed.interval[0]:.0%} and "
        f"{behind.observed.interval[1]:.0%} (95 %).",
    )
    if judged.call is not None:
        rates = judged.call.rates
        st.markdown(
            f"**{'Positive' if judged.call.called else 'Negative'} for {judged.call.positive}** at the threshold "
            f"{judged.call.threshold:.3f}.",
            help=f"On the validation images: sensitivity {rates.sensitivity}; specificity {rates.specificity}. The "
            "page Evaluate says what it is on the test images.",
        )
    st.markdown(
        f"Cannot be ruled out: **{', '.join(judged.members)}**.",
        help=f"The prediction set. Such sets hold the true class in about {judged.coverage:.0%} of images that are "
        "like the validation images.",
    )
