"""The composition root: which stage a role runs, made of what, and bound to which topic."""

from collections.abc import Callable
from importlib import import_module

from monitoring import metrics
from schemas.attributes import Catalogue, load_catalogue
from topology.kafka import count_partitions
from topology.producer import ConfirmedProducer
from topology.settings import Role, Settings
from topology.topics import TOPIC_OF
from topology.worker import RoleApp


def build(settings: Settings, role: Role) -> RoleApp:
    """Make the app of a role and all that it needs; call it in the event loop that will run it.

    Raises:
        ConfigurationError: catalogue, bundle, provider, LLM or table don't fit.
        Unavailable: broker or store don't answer.

    """
    count_partitions(settings, TOPIC_OF[role])  # Faust would end with a traceback, or wait for the topic without a word
    metrics.WORKER.labels(role).set(1)
    # A role imports what it needs itself: LanceDB, google-genai and numba take seconds of a start, and no role has all.
    make: Callable[[Settings, Catalogue, ConfirmedProducer], RoleApp] = import_module(f"{__name__}.{role}").make
    linger_ms = 1.0 if role == "session" else 5.0  # it hands lists over one by one
    return make(settings, load_catalogue(settings.catalogue_path), ConfirmedProducer(settings, linger_ms=linger_ms))
