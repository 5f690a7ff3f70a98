import sys

if "worker.runners.forkserver" in sys.orig_argv:
    from tests.support.takeover import take_over

    take_over("tests.support.probe")
if "worker.main" in sys.orig_argv:
    # The clock of a host is that of all its processes (`tests.hosts.clocks`).
    from worker.runners import forkserver_client

    forkserver_client.PASSED_ON += ("FAKETIME_*",)
