"""Messages of native code on stderr."""

import os
import subprocess
import sys
import threading

import pytest

from srgan_tf.native_output import suppress_native_output

HOLD = "import os\nfrom srgan_tf.native_output import suppress_native_output as hold\n"


@pytest.mark.parametrize(
    ("end", "code", "shown"),
    [("pass", 0, b"after\n"), ("os._exit(3)", 3, b"fatal\n"), ("os.abort()", -6, b"fatal\n")],
)
def test_native_output_is_printed_if_the_process_dies(end, code, shown):
    program = f"{HOLD}with hold():\n  os.write(2, b'fatal\\n')\n  {end}\nos.write(2, b'after\\n')"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert (run.returncode, run.stderr) == (code, shown)


def test_stderr_is_restored_after_several_threads_suppressed_it(capfd):
    def hold():
        with suppress_native_output():
            os.write(2, b"held back\n")

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"shown\n")
    assert capfd.readouterr().err == "shown\n"
