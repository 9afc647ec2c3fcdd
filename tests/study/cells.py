"""Work for cells, in a file that is quick to import: every cell is a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from netweight.errors import SettingsError


def double(what, folder):
    if what.get("fail"):
        raise SettingsError("as asked")
    if what.get("die") and not (Path(folder) / "died").exists():
        (Path(folder) / "died").write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    if what.get("die always"):
        os.kill(os.getpid(), signal.SIGKILL)
    if what.get("kill parent always") or (what.get("kill parent") and not (Path(folder) / "died").exists()):
        (Path(folder) / "died").write_text("")
        os.kill(os.getppid(), signal.SIGKILL)  # Ray's worker, which started this process
        time.sleep(600)
    if what.get("environment"):
        (Path(folder) / "deep").mkdir()
        (Path(folder) / "deep" / "left.bin").write_bytes(bytes(range(256)))
        threads = {name: os.environ.get(f"{name}_NUM_THREADS") for name in ("OMP", "MKL")}
        return {**threads, "cwd": os.getcwd(), "folder": folder, "ray": "ray" in sys.modules}
    if what.get("pid"):
        (Path(folder) / "pid").write_text(str(os.getpid()))
    with (Path(folder) / "times.txt").open("a") as file:
        file.write("x")
    time.sleep(what.get("sleep", 0))
    return {"double": 2 * what["number"]}
