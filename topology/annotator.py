"""Who reviews, as the settings have it."""

from models.annotator import Annotator
from models.local import LocalAnnotator
from schemas.attributes import Catalogue
from topology.llm import make_llm
from topology.settings import Settings


def make_annotator(settings: Settings, catalogue: Catalogue, *, patient: bool = True) -> Annotator:
    """Return the annotator that the settings name; one that is not `patient` raises at the first failure."""
    if settings.llm == "gemini":
        return make_llm(settings, catalogue, patient=patient)
    return LocalAnnotator.load(catalogue)
