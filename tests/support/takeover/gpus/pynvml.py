"""An NVML whose cards stand in a file beside it, which a test changes while processes run (`tests.support.gpus`).

Values of errors are those of NVML. Only what the service calls is here.
"""

# ruff: noqa: N802
import json
from pathlib import Path
from types import SimpleNamespace

NVML_TEMPERATURE_GPU = 0
NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NOT_FOUND = 3, 6
_TEXTS = {3: "Not Supported", 4: "Insufficient Permissions", 6: "Not Found", 9: "Driver Not Loaded",
          12: "NVML Shared Library Not Found", 15: "GPU is lost", 18: "RM has detected an NVML/RM version mismatch.",
          999: "Unknown Error"}  # fmt: skip


class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(_TEXTS[value])
        self.value = value


def _host():
    host = json.loads(Path(__file__).with_name("host.json").read_text())
    if host["error"] is not None:
        raise NVMLError(host["error"])
    return host


def _now(handle):
    """Return what the file says of a handle, or raise its error."""
    card, instance = handle
    cards = _host()["cards"]
    if card >= len(cards):
        raise NVMLError(NVML_ERROR_NOT_FOUND)
    if cards[card]["error"] is not None:
        raise NVMLError(cards[card]["error"])
    return cards[card] if instance is None else cards[card]["instances"][instance]


def nvmlInit():
    _host()


def nvmlSystemGetDriverVersion():
    return "999.1"


def nvmlDeviceGetCount():
    return len(_host()["cards"])


def nvmlDeviceGetHandleByIndex(index):
    _now((index, None))
    return index, None


def nvmlDeviceGetHandleByUUID(uuid):
    for card, found in enumerate(_host()["cards"]):
        if found["uuid"] == uuid:
            _now((card, None))
            return card, None
        for number, instance in enumerate(found["instances"] or ()):
            if instance is not None and instance["uuid"] == uuid:
                _now((card, number))
                return card, number
    raise NVMLError(NVML_ERROR_NOT_FOUND)


def nvmlDeviceGetUUID(handle):
    return _now(handle)["uuid"]


def nvmlDeviceGetName(handle):
    return _now(handle)["name"]


def nvmlDeviceGetMemoryInfo(handle):
    return SimpleNamespace(total=_now(handle)["memory"], used=1_000_000_000)


def nvmlDeviceGetUtilizationRates(handle):
    if handle[1] is not None:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    _now(handle)
    return SimpleNamespace(gpu=97)


def nvmlDeviceGetTemperature(handle, sensor):
    if handle[1] is not None:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    _now(handle)
    return 61


def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle):
    return handle[0], None


def nvmlDeviceGetMigMode(handle):
    if _now(handle)["instances"] is None:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return 1, 1


def nvmlDeviceGetMaxMigDeviceCount(handle):
    return len(_now(handle)["instances"])


def nvmlDeviceGetMigDeviceHandleByIndex(handle, number):
    if _now(handle)["instances"][number] is None:
        raise NVMLError(NVML_ERROR_NOT_FOUND)
    return handle[0], number
