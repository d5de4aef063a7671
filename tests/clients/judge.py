"""Compares what a client made of an answer with what it should have."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Raises:
    """The client shall raise an exception of one of these kinds, which says this."""

    kinds: tuple
    says: str = ""


def complaints(got, means):
    """What is not as it should be: `means` is what the client shall understand, or `Raises`."""
    error = got.get("error")
    if isinstance(means, Raises):
        return not_raised(error, got, means)
    if error:
        return [f"raised {error}"]
    # A path need not report every part.
    reported = means.keys() & got.keys()
    return [f"{part} is {got[part]!r}, not {means[part]!r}" for part in reported if got[part] != means[part]]


def not_raised(error, got, means):
    if error is None:
        return [f"took it for an answer: {got}"]
    if not set(means.kinds) & set(error["kinds"]):
        return [f"raised {error}, not {' or '.join(means.kinds)}"]
    if means.says not in error["message"]:
        return [f"{error['message']!r} does not say {means.says!r}"]
    return []
