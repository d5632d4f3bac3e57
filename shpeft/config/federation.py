"""How sites train one model together; everything else is a setting of the run."""

from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from shpeft.config.documents import Section


class Federation(Section):
    """How sites train one model together.

    Examples:
        >>> Federation().at_least, Federation(local_epochs=2).rounds(epochs=10)
        (2, 5)
    """

    local_epochs: Annotated[int, Parameter("--local-epochs")] = Field(
        1, ge=1, description="Epochs that a site trains between two exchanges."
    )
    at_least: Annotated[int, Parameter("--at-least")] = Field(
        2, ge=1, description="Sites that a round needs; with fewer usable replies, training ends with an error."
    )
    personal_heads: Annotated[bool, Parameter("--personal-heads")] = Field(
        False, description="Share the values alone: each site, and the coordinator, keeps a head of its own."
    )

    noise: Annotated[float, Parameter("--noise")] = Field(
        0.0,
        ge=0,
        description="Record-level differential privacy: the noise added to the sum of gradients, as a multiple of "
        "--clip. 0: none.",
    )
    clip: Annotated[float, Parameter("--clip")] = Field(
        1.0, gt=0, description="With noise, the largest norm of the gradient of an image."
    )
    selection_noise: Annotated[float, Parameter("--selection-noise")] = Field(
        0.0,
        ge=0,
        description="With noise, select the weights by a gradient of all images, with noise of so many times --clip. "
        "0: no image takes part in the selection.",
    )
    delta: Annotated[float, Parameter("--delta")] = Field(
        1e-5, gt=0, lt=1, description="With noise, the δ of the guarantee; less than one in the images of a site."
    )

    def rounds(self, epochs: int) -> int:
        """Return the number of exchanges of a training of that many epochs."""
        return -(-epochs // self.local_epochs)
