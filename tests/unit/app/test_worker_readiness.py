from __future__ import annotations

import os

from token_service.app.readiness import Colleagues, NodeReadiness
from token_service.app.worker_readiness import PATIENCE, WorkerReadiness


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_service_is_not_ready_while_another_worker_is_silent() -> None:
    clock = Clock()
    shared = WorkerReadiness(2, clock)
    node = NodeReadiness(lambda: {"database": None}, Colleagues(0, shared))
    node.started()
    assert node.ready() == {
        "grpc": None,
        "database": None,
        "worker-0": None,
        "worker-1": "worker 1 has not been ready yet",
    }
    assert node.startup() == {"started": "not all workers have been ready yet"}
    shared.note(1)
    assert not any(node.ready().values())
    assert node.startup() == {"started": None}
    clock.now += PATIENCE
    shared.note(0)
    assert not any(node.ready().values())
    clock.now += 1
    assert node.ready()["worker-1"] == "worker 1 has not been ready for 11 s"
    assert node.ready()["worker-0"] is None
    assert node.startup() == {"started": None}  # a start is complete for good


def test_a_worker_with_a_problem_does_not_call_itself_ready() -> None:
    shared = WorkerReadiness(1, Clock())
    node = NodeReadiness(lambda: {"database": "unavailable"}, Colleagues(0, shared))
    node.started()
    assert not shared.all_started


def test_a_node_without_workers_is_ready_while_it_listens() -> None:
    node = NodeReadiness(dict, None)
    assert node.startup()["started"] is not None
    node.started()
    assert node.ready() == {"grpc": None}
    node.stopping()
    assert node.ready() == {"grpc": "gRPC does not listen: the node is starting or stopping"}
    assert node.startup() == {"started": None}


def test_notes_of_a_forked_process_reach_the_others() -> None:
    shared = WorkerReadiness(1)
    pid = os.fork()
    if pid == 0:
        shared.note(0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert shared.checks() == {"worker-0": None}
