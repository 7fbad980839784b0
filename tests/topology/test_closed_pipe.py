import subprocess
import sys

from topology.settings import Settings, environment


def test_a_reader_that_has_enough_ends_a_command_quietly() -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "topology.cli", "settings"],
        env=environment(Settings()), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert command.stdout
    assert command.stderr
    command.stdout.close()
    assert command.stderr.read() == b""
    assert command.wait(30) == 141
    command.stderr.close()
