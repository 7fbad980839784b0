"""The demo as a person runs it."""

import re
import signal
import subprocess
import sys
from threading import Timer

from monitoring.scrape import scrape, total
from tests.fakes.gemini_server import GeminiServer
from topology.settings import Settings, environment


def test_a_demo_that_stays_names_a_target_of_every_role_and_ends_in_order_when_it_is_interrupted(
    gemini: GeminiServer,
) -> None:
    settings = Settings(llm="gemini", gemini_api_key="key", gemini_base_url=gemini.url)
    demo = subprocess.Popen(
        [sys.executable, "-m", "topology.cli", "demo", "--stay"],
        env=environment(settings), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    patience = Timer(300, demo.kill)
    patience.start()
    try:
        assert demo.stdout is not None
        config = next((line for line in demo.stdout if line.startswith("scrape_configs:")), "")
        ports = [int(port) for port in re.findall(r'"127\.0\.0\.1:(\d+)"', config)]
        pages = [scrape(port) for port in ports]
        demo.send_signal(signal.SIGINT)
        demo.communicate()
    finally:
        patience.cancel()
        demo.kill()
    assert demo.returncode == 0
    assert len(pages) == 4
    assert all(total(page, "vibestream_consumed_records_total") > 0 for page in pages)
