"""What pip installs for a test is kept, and a machine where pip cannot skips."""

import subprocess
from pathlib import Path

import pytest
from _pytest.outcomes import Failed, Skipped

from tests.venv import pip_install


def test_environment_is_made_once_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# nothing\n")
    python = pip_install("example", requirements)
    said = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(python.parent.parent)
    (python.parent / "mark").touch()
    assert (pip_install("example", requirements).parent / "mark").exists()
    assert [path.name for path in (tmp_path / "django_mcp" / "venv").iterdir()] == [python.parent.parent.name]


@pytest.mark.parametrize(("required", "outcome"), [("", Skipped), ("1", Failed)])
def test_what_pip_cannot_install_skips_or_fails_with_the_reason(
    required: str, outcome: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("REQUIRE_SERVICES", required)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("./no-such-folder\n")
    with pytest.raises(outcome, match="pip could not install example"):
        pip_install("example", requirements)
    assert list((tmp_path / "django_mcp" / "venv").iterdir()) == []
