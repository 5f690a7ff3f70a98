"""The runner of a gang in TensorFlow: one process, which sees all devices of the gang.

A CPU is divided into as many logical devices as the gang has slots. Both happen before TensorFlow starts, in a fork
that has executed nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from nightshift.names import RUN
from shared.fleet.gpus import VISIBLE
from worker.runners.failures import failure
from worker.runners.messages import Assignment
from worker.training import gang
from worker.training.backends.tensorflow_gang import TensorflowGang


def run(assignment: Assignment, lead: Callable[[], bool], say: Callable[[Any], None]) -> int:
    """Run the gang to its end: all its work is that of `lead`. Returns the exit code of the runner.

    `say` sends an error before it.
    """
    try:
        _show_devices(assignment)
    except Exception as error:
        say(failure(error, assignment.secrets.values(), assignment.device, "tensorflow"))
        return 0
    if assignment.spec["kind"] != RUN:  # a program makes a strategy itself
        gang.join(TensorflowGang(assignment.device, len(assignment.devices)))
    lead()
    return 0


def _show_devices(assignment: Assignment) -> None:
    """Let TensorFlow find the devices of the gang."""
    if assignment.device == "gpu":
        os.environ[VISIBLE] = ",".join(assignment.devices)
        return
    (cpu,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration() for _ in assignment.devices]
    tf.config.set_logical_device_configuration(cpu, parts)
