"""The one error of the lab: something real did not come up, said in a sentence."""


class LabError(RuntimeError):
    """A command failed or a condition was not met in time; the message carries what it printed."""
