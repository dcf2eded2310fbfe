"""`srgan COMMAND --help`."""

import subprocess
import sys

import pytest

# Slow to import, or in an extra.
ABSENT = ("tensorflow", "apache_beam", "sqlalchemy", "fastapi")


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("upscale", "--self-ensemble"),
        ("upscale-batch", "-- RUNNER_OPTIONS"),
        ("train", "--export-step"),
        ("export", "--calibration"),
        ("evaluate", "--degrade"),
        ("mos create", "--consent"),
        ("demo", "--models"),
    ],
)
def test_help_is_quick_and_has_examples(command, option):
    code = f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))\n"
    code += "from srgan_tf.cli import main; main()"
    words = [sys.executable, "-c", code, *command.split(), "--help"]
    shown = subprocess.run(words, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "examples:" in shown.stdout and option in shown.stdout
