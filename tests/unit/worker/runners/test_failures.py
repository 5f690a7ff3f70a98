"""Errors on devices, as CUDA, cuDNN and frameworks word them: memory, faults of the device, the program's own."""

from __future__ import annotations

import errno
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors import SafetensorError

from shared.errors import BadData
from worker.runners.failures import failure, is_device_out_of_memory


@pytest.fixture(autouse=True)
def no_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever other tests of this process have imported, no framework is loaded here but a test's own."""
    for name in ("torch", "tensorflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def of_tensorflow(name: str, text: str) -> Exception:
    """An error of TensorFlow, which is no RuntimeError."""
    found: Exception = type(name, (Exception,), {"__module__": "tensorflow.python.framework.errors_impl"})(text)
    return found


def caused(cause: Exception) -> Exception:
    error = ValueError("Exception encountered when calling Functional.call()")
    error.__cause__ = cause
    return error


ILLEGAL = RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronous")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        of_tensorflow("InternalError", "Failed copying input tensor … Dst tensor is not initialized."),
        of_tensorflow("InternalError", "failed to create cublas handle: the resource allocation failed"),
        of_tensorflow("InternalError", "Failed to allocate 12884901888 bytes on the GPU_0_bfc allocator"),
        of_tensorflow("UnknownError", "CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        of_tensorflow("ResourceExhaustedError", "OOM when allocating tensor … on /job:localhost/device:GPU:0"),
        caused(of_tensorflow("ResourceExhaustedError", "OOM when allocating on device:GPU:0")),
    ],
    ids=lambda error: str(error)[:40],
)
def test_memory_of_the_device_is_out_however_a_library_says_it(error: Exception) -> None:
    assert failure(error, device="gpu", framework="torch").error_type == "device_out_of_memory"
    assert is_device_out_of_memory(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"), "out_of_memory"),
        (of_tensorflow("InternalError", "Out of memory while trying to allocate 8 bytes"), "out_of_memory"),
        (ValueError("Out of memory is what this sentence is about"), "unexpected_error"),
    ],
)
def test_memory_of_the_host_and_mere_words(error: Exception, kind: str) -> None:
    assert failure(error).error_type == kind
    assert not is_device_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        ILLEGAL,
        RuntimeError("CUDA error: unspecified launch failure"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
        RuntimeError("No CUDA-capable device is detected"),
        RuntimeError("The NVIDIA driver on your system is too old … CUDA driver version is insufficient"),
        of_tensorflow("InternalError", "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"),
        caused(of_tensorflow("InternalError", "CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure")),
    ],
    ids=lambda error: str(error)[:40],
)
def test_a_fault_of_the_device_is_typed_on_a_gpu_only(error: Exception) -> None:
    found = failure(error, device="gpu", framework="torch")
    assert (found.error_type, found.retryable) == ("device_failed", True)
    assert failure(error, device="cpu", framework="torch").error_type == "unexpected_error"


class Cuda:
    """torch.cuda of a process whose context is as a test says."""

    def __init__(self, *, initialized: bool = True, available: bool = True, error: str | None = None) -> None:
        self.is_initialized, self.is_available, self._error = lambda: initialized, lambda: available, error

    def synchronize(self) -> None:
        if self._error is not None:
            raise RuntimeError(self._error)


@pytest.mark.parametrize(
    ("cuda", "error", "kind"),
    [
        (Cuda(error="CUDA error: unspecified launch failure"), ValueError("shapes differ"), "device_failed"),
        (Cuda(initialized=False, available=False), BadData("no GPU"), "device_failed"),
        (Cuda(), ValueError("shapes differ"), "unexpected_error"),
        (Cuda(initialized=False), BadData("row 7"), "bad_data"),
        (Cuda(error="CUDA error: device-side assert triggered"), IndexError("label 11"), "unexpected_error"),
        (Cuda(error="CUDA error: unspecified launch failure"), MemoryError(), "out_of_memory"),
    ],
)
def test_a_broken_context_is_found_whatever_the_error_says(
    monkeypatch: pytest.MonkeyPatch, cuda: Any, error: Exception, kind: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert failure(error, device="gpu", framework="torch").error_type == kind


def test_a_typed_error_is_not_taken_for_a_fault_by_its_words() -> None:
    error = BadData("row 7 holds the text 'unspecified launch failure'")
    assert failure(error, device="gpu", framework="torch").error_type == "bad_data"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_not_the_jobs_own_error(number: int) -> None:
    assert failure(caused(OSError(number, "No space left on device"))).error_type == "disk_full"
    assert failure(OSError(errno.EACCES, "Permission denied")).error_type == "unexpected_error"


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        of_tensorflow("ResourceExhaustedError", "model.index; No space left on device"),
        OSError("500000 requested and 131040 written"),
    ],
)
def test_a_full_disk_is_known_by_what_libraries_say(error: Exception) -> None:
    """They write files themselves, and their errors have no number."""
    assert failure(error).error_type == "disk_full"


def test_a_typed_error_is_not_taken_for_a_full_disk_by_its_words() -> None:
    assert failure(BadData("row 7 holds the text 'No space left on device'")).error_type == "bad_data"


def test_an_assertion_in_a_kernel_is_the_programs_own() -> None:
    error = RuntimeError("CUDA error: device-side assert triggered")
    assert failure(error, device="gpu", framework="torch").error_type == "unexpected_error"


def test_a_framework_that_sees_no_gpu_is_told_with_the_jobs_error(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimpleNamespace(list_physical_devices=lambda kind: [])
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))
    found = failure(BadData("no GPU to use"), device="gpu", framework="tensorflow")
    assert (found.error_type, found.message) == (
        "device_failed", "TensorFlow sees no GPU; the job: no GPU to use",
    )  # fmt: skip


def test_secrets_are_hidden_in_what_a_framework_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=Cuda(error="launch of s3cret failed")))
    found = failure(ValueError("x"), secrets=["s3cret"], device="gpu", framework="torch")
    assert found.error_type == "device_failed"
    assert "s3cret" not in found.message
