"""The benchmark runs: both servers start, answer alike under load, and are gone afterwards."""

import subprocess
import sys

import pytest

from benchmarks import load


@pytest.mark.live
@pytest.mark.skipif(not load.is_installed(), reason="wrk, the load generator, is not installed")
def test_it_measures_both_servers_with_no_wrong_answer() -> None:
    command = [sys.executable, "-m", "benchmarks", "--runs", "1", "--seconds", "1", "--warm-up", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "async tool, requests/s" in done.stdout
    assert "sync tool, requests/s" in done.stdout
    assert done.stdout.count("official SDK") == 2


def test_without_wrk_it_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "benchmarks"]
    monkeypatch.setenv("PATH", "/nowhere")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "apt-get install wrk" in done.stderr
