"""What Nightshift needs to know about the program; this module imports no framework."""

from pydantic import BaseModel, ConfigDict, Field

from nightshift.programs import Program


class Params(BaseModel):
    """The parameters of a job."""

    model_config = ConfigDict(strict=True, extra="forbid")

    epochs: int = Field(10, ge=1, description="passes over the training data")


PROGRAM = Program(
    name="digits",
    train="nightshift_keras_script.training:train",
    params=Params,
    description="A small classifier of handwritten digits.",
    framework="tensorflow",
    promise="exact",
)
