"""Run everything on this machine."""

import argparse
from pathlib import Path

from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    demo = commands.add_parser("demo", help="run everything on this machine with a catalogue that ships")
    demo.add_argument("--json", type=Path, metavar="FILE", help="write the summary there")
    demo.add_argument("--real", type=Path, metavar="DIR", help="use the KuaiRand log and GoEmotions texts in DIR")
    demo.add_argument("--stay", action="store_true", help="run on until Ctrl-C, with a Prometheus target per worker")
    demo.set_defaults(command=_demo)


def _demo(options: argparse.Namespace, settings: Settings) -> int:
    from topology.demo.run import run_demo
    from topology.demo.scenario import real_scenario, synthetic_scenario

    scenario = real_scenario(options.real) if options.real else synthetic_scenario()
    return run_demo(scenario, settings, options.json, stay=options.stay)
