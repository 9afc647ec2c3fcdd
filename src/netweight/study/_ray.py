"""Cells on a Ray cluster, each a task: one that is running, or one started on this machine for the study.

Tries are the study's to count, so Ray repeats nothing. A task asks for as many CPUs as a cell has threads.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netweight.errors import ResourceError, SettingsError
from netweight.files import write_atomically
from netweight.study._elsewhere import Home, Left, done
from netweight.study._processes import RESULT, Work

OBJECTS_BYTES = 100 * 2**20  # on this machine cells give back their result alone
ANSWER_S = 5.0
STOP_S = 15.0
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}  # the second silences a warning
LOGS = "RAY_LOG_TO_DRIVER"  # Ray's own variable: 1 shows what workers print


@dataclass(frozen=True)
class RayTask:
    """A cell that was given to the cluster."""

    ray: Any
    reference: Any
    folder: Path

    def alive(self) -> bool:
        try:
            return not self.ray.wait([self.reference], timeout=0, fetch_local=False)[0]
        except self.ray.exceptions.RaySystemError as error:
            raise _gone(error) from error

    def ended(self) -> str:
        """How it ended, in words; what it left lies in its folder then.

        Raises: SettingsError: the worker is not fit for it. ResourceError: the cluster is gone.
        """
        errors = self.ray.exceptions
        try:
            left: Left = self.ray.get(self.reference)
        except (errors.LocalRayletDiedError, errors.RaySystemError) as error:
            raise _gone(error) from error
        except errors.RayTaskError as error:  # what a cell raises comes back as a value: this is the worker's own
            raise SettingsError(
                f"a worker of the cluster cannot do cells: {_last_line(error)}; install this netweight on every machine of it"
            ) from error
        except errors.RayError as error:
            return f"its Ray worker died ({type(error).__name__})"
        if left.refused:
            raise SettingsError(f"a worker of the cluster cannot do cells: {left.refused}; install the same everywhere")
        _bring_home(self.folder, left)
        return left.words


@dataclass(frozen=True)
class Cluster:
    """Cells on a cluster that this process is connected to."""

    ray: Any
    home: Home
    threads: int

    def start(self, work: Work, what: Mapping[str, Any], folder: Path) -> RayTask:
        task = self.ray.remote(max_retries=0, num_cpus=self.threads, scheduling_strategy="SPREAD")(done)
        return RayTask(self.ray, task.remote(self.home, work, dict(what), str(folder.resolve())), folder)

    def stop(self, running: Sequence[RayTask]) -> None:
        """Interrupt all of them, and make an end of those that go on."""
        references = [one.reference for one in running]
        for forced in (False, True):
            for reference in references:
                self.ray.cancel(reference, force=forced)
            if references:
                _, references = self.ray.wait(
                    references, num_returns=len(references), timeout=STOP_S, fetch_local=False
                )


@contextmanager
def cluster(address: str, folder: Path, *, workers: int, threads: int) -> Iterator[Cluster]:
    """Connected while the context lasts.

    Args:
      address: HOST:PORT, "auto" for the one running here, "local" for one of ``workers`` workers that ends with the context.
      folder: of the study's cells; a file in it tells workers whether they see this disk.
    Raises: SettingsError: no Ray, or no cluster that answers there or could do a cell.
    """
    ray = _imported()
    connected = ray.is_initialized()
    if connected and address != "auto":
        raise SettingsError(f'ray = {address}: this process is connected to a cluster; "auto" takes that one')
    if not connected:
        _connect(ray, address, workers * threads)
    mark = folder.resolve() / f".seen-{uuid.uuid4().hex}"
    try:
        _check_large_enough(ray, address, threads)
        mark.touch()
        yield Cluster(ray, Home.here(mark), threads)
    finally:
        mark.unlink(missing_ok=True)
        if not connected:
            ray.shutdown()


def _imported() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise SettingsError(
            f"studies on a cluster need Ray, which cannot be imported ({error}): pip install -c constraints.txt 'netweight[ray]'"
        ) from error


def _connect(ray: Any, address: str, cpus: int) -> None:
    quiet = {"log_to_driver": os.environ.get(LOGS) == "1", "logging_level": logging.CRITICAL}
    local = address == "local"
    try:
        if local:
            with _variables(QUIET | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}):
                ray.init(
                    "local", num_cpus=cpus, num_gpus=0, include_dashboard=False,
                    object_store_memory=OBJECTS_BYTES, **quiet,
                )  # fmt: skip
        else:
            _check_answers(address)
            with _variables(QUIET):
                ray.init(address, **quiet)
    except Exception as error:  # Ray has no error of its own for this
        what = "a cluster could not be started here" if local else "no Ray cluster answers"
        way_out = (
            "Try again when less is running, or leave --ray away"
            if local
            else 'Give HOST:PORT of one that this machine belongs to, "auto" for one that `ray start` began here, or "local"'
        )
        raise SettingsError(f"ray = {address}: {what} ({_last_line(error)}). {way_out}") from error


def _check_answers(address: str) -> None:
    """A quick look before Ray's own, which takes minutes. Raises: ValueError, OSError: nothing is there."""
    if address.startswith("ray://"):
        raise ValueError("ray:// is for clients outside a cluster")
    services = importlib.import_module("ray._private.services")
    host, _, port = services.canonicalize_bootstrap_address(address).rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()


def _check_large_enough(ray: Any, address: str, threads: int) -> None:
    most = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if most < threads:
        raise SettingsError(
            f"ray = {address}: a cell of {threads} threads asks for as many CPUs of one machine, and none of the cluster has more "
            f"than {most:g}; take fewer threads"
        )


def _bring_home(folder: Path, left: Left) -> None:
    """Files of another disk take the place of what is here, all at once; a result that is here already stays."""
    if not left.elsewhere:
        for name, data in left.files.items():
            if not (folder / name).is_file():  # disks that are shared may show late what another machine wrote
                folder.mkdir(parents=True, exist_ok=True)
                write_atomically(folder / name, data)
        return
    if RESULT not in left.files:
        return
    coming = folder.with_name(folder.name + ".coming")
    shutil.rmtree(coming, ignore_errors=True)
    for name, data in left.files.items():
        (coming / name).parent.mkdir(parents=True, exist_ok=True)
        (coming / name).write_bytes(data)
    if folder.exists():
        shutil.rmtree(folder)
    coming.rename(folder)


@contextmanager
def _variables(changed: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the processes that Ray starts; afterwards as before."""
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _gone(error: Exception) -> ResourceError:
    return ResourceError(
        f"the Ray cluster no longer answers ({_last_line(error)}); finished cells are kept, and the same command goes on"
    )


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
