"""A role whose student follows the registry."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from faust import App

from models.registry import Registry
from models.student import Student
from streams.students import LiveStudent, RegistryFollower
from topology.settings import Settings
from topology.worker import RoleApp


def following(
    settings: Settings,
    app: App,
    live: LiveStudent,
    load: Callable[[Path], Student],
    closing: Callable[..., Callable[[], Awaitable[None]]],
    close: Callable[[], Awaitable[None]],
    shadow_share: float,
) -> RoleApp:
    """Return the role's app; its student follows the registry, if the settings name one."""
    if not settings.students:
        return RoleApp(app, closing(close))
    follower = RegistryFollower(live, Registry(Path(settings.students)), load, shadow_share=shadow_share)
    return RoleApp(app, closing(follower.close, close), start=lambda _: follower.start())
