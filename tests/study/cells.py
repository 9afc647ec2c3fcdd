"""Work for cells, in a file that is quick to import: every cell is a process of its own."""

from __future__ import annotations

import os
import signal
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
    if what.get("pid"):
        (Path(folder) / "pid").write_text(str(os.getpid()))
    with (Path(folder) / "times.txt").open("a") as file:
        file.write("x")
    time.sleep(what.get("sleep", 0))
    return {"double": 2 * what["number"]}
