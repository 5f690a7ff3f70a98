import sys

if "worker.runners.forkserver" in sys.orig_argv:
    from tests.support.takeover import take_over

    take_over("tests.support.probe")
if {"worker.runners.forkserver", "worker.runners.device_probe"} & {*sys.orig_argv}:
    from tests.support.gpus import pretend

    pretend(__file__)
