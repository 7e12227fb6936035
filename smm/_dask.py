"""Dask as the engine for more than one machine; loads `distributed`."""

from __future__ import annotations

import time
from concurrent.futures import BrokenExecutor
from typing import Any

from smm._child import begin, end
from smm._engines import GUARD, Foreign, processors, refuse_within_an_import
from smm._worker import Asked, Job, Ready, prepare
from smm.errors import RunRefusedError, require

_CONNECT_SECONDS = 10
_WITHOUT_WORKERS_SECONDS = 60
"""How long a scheduler may have no workers before a run that waits for them ends."""


def engine(address: str | None, workers: int | None) -> Foreign:
    """An engine over dask.

    Args:
        address: of a running scheduler. None: the client that this process has already, or else a local
            cluster of processes, which ends with the run.
        workers: batches under way at once, for a local cluster also its processes; None for as many as there
            are threads in the cluster, or processors here.

    Raises:
        MissingExtraError: dask is not installed.
        RunRefusedError: no scheduler answers, or it has no workers, or no cluster could be started here.
    """
    distributed = require("distributed", "dask")
    if address is None:
        refuse_within_an_import("dask")
    client, owned = _client(distributed, address, workers)
    try:
        threads = sum(client.nthreads().values())
        if not threads:
            where = client.scheduler.address
            raise RunRefusedError(
                executor="dask",
                reason=f"the scheduler at {where} has no workers; start some: dask worker {where}",
            )
    except BaseException:
        _close(owned, True)
        raise

    def everywhere(job: Job, asked: Asked) -> list[Ready]:
        return list(client.run(prepare, job, asked).values())

    return Foreign(
        client.get_executor(pure=False),
        name="dask",
        workers=workers or threads,
        everywhere=everywhere,
        end=lambda at_once: _close(owned, at_once),
        look=_Look(client),
    )


class _Look:
    """A look at the workers of a scheduler, which keeps what they had begun until others come."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._without_since: float | None = None

    def __call__(self) -> None:
        """Ask the scheduler for its workers.

        Raises:
            BrokenExecutor: it has had none for `_WITHOUT_WORKERS_SECONDS`.
        """
        try:
            workers = self._client.nthreads(callback_timeout=1)
        except (OSError, TimeoutError):  # the client itself gives up when it cannot connect again
            return
        now = time.monotonic()
        if workers:
            self._without_since = None
        elif self._without_since is None:
            self._without_since = now
        elif now - self._without_since >= _WITHOUT_WORKERS_SECONDS:
            where = self._client.scheduler.address
            raise BrokenExecutor(
                f"the scheduler at {where} has had no workers for {_WITHOUT_WORKERS_SECONDS} s; "
                f"start some: dask worker {where}"
            )


def _client(distributed: Any, address: str | None, workers: int | None) -> tuple[Any, list[Any]]:
    """A client, and what is to be closed with the run."""
    if address is not None:
        client = distributed.Client.__new__(distributed.Client)
        try:
            client.__init__(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            # One that the garbage collector finds closes itself, and may wait for a lock of its own thread.
            client.close()
            raise RunRefusedError(
                executor=address,
                reason=f"no scheduler answers there within {_CONNECT_SECONDS} s; start one: dask scheduler",
            ) from error
        return client, [client]
    try:
        return distributed.default_client(), []
    except ValueError:  # there is none
        pass
    try:
        cluster = distributed.LocalCluster(
            n_workers=workers or processors(),
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",  # None would mean port 8787, and a warning if somebody has it
            preload=__name__,
        )
    except RuntimeError as error:
        reason = f"no local cluster could be started, see above; {GUARD}"
        raise RunRefusedError(executor="dask", reason=reason) from error
    client = distributed.Client(cluster, set_as_default=False)
    return client, [client, cluster]


def dask_setup(worker: Any) -> None:
    """Dask calls this in the worker processes of a local cluster (`preload`)."""
    del worker
    begin()


def _close(owned: list[Any], at_once: bool) -> None:
    while owned:
        each = owned.pop(0)
        for nanny in getattr(each, "workers", {}).values() if at_once else ():
            nanny.auto_restart = False
            if nanny.pid:
                end(nanny.pid)  # it would be given seconds for what it is at
        each.close()
