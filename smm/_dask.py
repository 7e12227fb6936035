"""Dask as the engine for more than one machine; loads `distributed`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smm._engines import Foreign, processors
from smm._worker import Job, Ready, Task, prepare
from smm.errors import RunRefusedError, require

_CONNECT_SECONDS = 10


def engine(address: str | None, workers: int | None) -> Foreign:
    """An engine over dask.

    Args:
        address: of a running scheduler. None: the client that this process has already, or else a local
            cluster of processes, which ends with the run.
        workers: batches under way at once, for a local cluster also its processes; None for as many as there
            are threads in the cluster, or processors here.

    Raises:
        MissingExtraError: dask is not installed.
        RunRefusedError: no scheduler answers, or it has no workers.
    """
    distributed = require("distributed", "dask")
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
        _close(owned)
        raise

    def everywhere(job: Job, tasks: Sequence[Task]) -> list[Ready]:
        return list(client.run(prepare, job, tasks).values())

    return Foreign(
        client.get_executor(pure=False),
        name="dask",
        workers=workers or threads,
        everywhere=everywhere,
        end=lambda: _close(owned),
    )


def _client(distributed: Any, address: str | None, workers: int | None) -> tuple[Any, list[Any]]:
    """A client, and what is to be closed with the run."""
    if address is not None:
        try:
            client = distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise RunRefusedError(
                executor=address,
                reason=f"no scheduler answers there within {_CONNECT_SECONDS} s; start one: dask scheduler",
            ) from error
        return client, [client]
    try:
        return distributed.default_client(), []
    except ValueError:  # there is none
        pass
    cluster = distributed.LocalCluster(
        n_workers=workers or processors(), threads_per_worker=1, processes=True, dashboard_address=None
    )
    client = distributed.Client(cluster, set_as_default=False)
    return client, [client, cluster]


def _close(owned: list[Any]) -> None:
    while owned:
        owned.pop(0).close()
