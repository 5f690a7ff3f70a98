"""The families as one would write them in torch: modules, autograd, fused Adam, all data on the device."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import bench_gan, bench_mlp, bench_tagger, bench_text_classifier, plain_cnn
from benchmarks.gpu.workloads import Workload

Step = Callable[[], object]


class Tokens(nn.Module):
    """Embedding, recurrent layers on padded batches, logits for each token or for each text."""

    def __init__(self, work: Workload, tokens: int, outputs: int) -> None:
        super().__init__()
        model = work.model
        ways = 2 if getattr(model, "bidirectional", False) else 1
        kind: Any = {"lstm": nn.LSTM, "gru": nn.GRU, "simple_rnn": nn.RNN}[getattr(model, "cell", "gru")]
        widths = [model.embedding, *(ways * units for units in model.units)]
        self.embedding = nn.Embedding(tokens, model.embedding)
        self.layers = nn.ModuleList(
            kind(width, units, batch_first=True, bidirectional=ways == 2)
            for width, units in zip(widths, model.units, strict=False)
        )
        self.output, self.dropout = nn.Linear(widths[-1], outputs), model.dropout
        self.is_pooled = work.family == "text_classifier"

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.embedding(x), self.dropout, self.training)
        for layer in self.layers:
            x = F.dropout(layer(x)[0], self.dropout, self.training)
        return self.output(x.mean(1) if self.is_pooled else x)


def network(work: Workload) -> nn.Module:
    """Return the network of a family that learns to tell classes."""
    match work.family:
        case "cnn":
            found: nn.Module = plain_cnn.torch_network(work.model)
            return found
        case "mlp":
            widths = [bench_mlp.WIDTH, *work.model.hidden]
            layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
            return nn.Sequential(*layers, nn.Linear(widths[-1], bench_mlp.CLASSES))
        case "gru_lm":
            return Tokens(work, work.model.vocabulary_size, work.model.vocabulary_size)
        case "tagger":
            return Tokens(work, bench_tagger.WORDS + 1, bench_tagger.TAGS)
    return Tokens(work, bench_text_classifier.VOCABULARY + 1, bench_text_classifier.CLASSES)


def read_and_wanted(work: Workload) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the inputs of a network and its classes; -100: none."""
    data = work.data
    match work.family:
        case "cnn":
            return data["x"].transpose(0, 3, 1, 2), data["y"]
        case "gru_lm":
            windows = data["windows"].astype(np.int64)
            return windows[:, :-1], windows[:, 1:]
        case "tagger":
            tags = data["tags"].astype(np.int64)
            return data["tokens"][..., 0].astype(np.int64), np.where(tags < 0, -100, tags)
        case "text_classifier":
            return np.asarray(data["x"]).astype(np.int64), data["y"]
    return data["x"], data["y"]


def step_of(work: Workload, device: str, *, bfloat16: bool = False, compiled: bool = False) -> Step:
    """Return a training step. `compiled`: by `torch.compile`, with CUDA graphs where the device has them."""
    if work.family == "gan":
        with torch.device(device):
            return _gan_step(work, bfloat16=bfloat16)
    net = network(work).to(device)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    x, y = (torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in read_and_wanted(work))
    forward: Any = torch.compile(net, mode="reduce-overhead") if compiled else net

    def step() -> None:
        rows = torch.randint(0, len(y), (work.batch_size,), device=device)
        read, wanted = x[rows], y[rows]
        read = read.float() / 255 if read.dtype == torch.uint8 else read
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16):
            logits = forward(read)
        loss = F.cross_entropy(logits.float().flatten(0, -2), wanted.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _gan_step(work: Workload, *, bfloat16: bool) -> Step:
    """Return a step of the tutorial's loop, on the default device."""
    model, n = work.model, work.batch_size
    generator, discriminator = bench_gan.torch_generator(model), bench_gan.torch_discriminator(model)
    of_g, of_d = (
        torch.optim.Adam(net.parameters(), bench_gan.RATE, betas=(bench_gan.BETA1, 0.999), fused=True)
        for net in (generator, discriminator)
    )
    judge, ones, zeros = nn.BCEWithLogitsLoss(), torch.ones(n, 1), torch.zeros(n, 1)
    device = ones.device
    data = torch.from_numpy(work.data["x"]).permute(0, 3, 1, 2).to(device)

    def step() -> None:
        real = data[torch.randint(0, len(data), (n,), device=device)].float() / 127.5 - 1
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            fake = generator(torch.randn(n, model.latent, device=device))
            d_loss = judge(discriminator(real), ones) + judge(discriminator(fake.detach()), zeros)
        of_d.zero_grad()
        d_loss.backward()
        of_d.step()
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            g_loss = judge(discriminator(fake), ones)
        of_g.zero_grad()
        g_loss.backward()
        of_g.step()

    return step


def predicting(work: Workload, device: str) -> Callable[[], int]:
    """Return what computes the outputs of all rows in float32, copies them to the host and returns their number."""
    net = (bench_gan.torch_discriminator(work.model) if work.family == "gan" else network(work)).to(device).eval()
    read = work.data["x"].transpose(0, 3, 1, 2) if work.family == "gan" else read_and_wanted(work)[0]
    host = torch.from_numpy(np.ascontiguousarray(read[: 8 * work.batch_size]))

    @torch.no_grad()
    def predict() -> int:
        for part in host.split(work.batch_size):
            x = part.to(device)
            net(x.float() / 255 if x.dtype == torch.uint8 else x).softmax(-1).cpu()
        return len(host)

    return predict


def wait(device: str) -> None:
    """Wait for the device."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def limits(device: str, seconds: float) -> dict[str, float]:
    """Return what the device reaches: operations per second in a product in bfloat16, bytes per second in a copy."""
    side = 8192 if torch.device(device).type == "cuda" else 256
    a = torch.ones(side, side, device=device, dtype=torch.bfloat16)
    c = torch.ones(64 * side * 1024 // 8, device=device)
    to = torch.empty_like(c)
    return {
        "operations": 2.0 * side**3 * _rate(lambda: a @ a, device, seconds),
        "bytes": 2.0 * c.nbytes * _rate(lambda: to.copy_(c), device, seconds),
    }


def _rate(do: Step, device: str, seconds: float) -> float:
    """Return how often a second something is done."""
    from time import perf_counter

    do()
    wait(device)
    done, began = 0, perf_counter()
    while perf_counter() - began < seconds:
        do()
        done += 1
        if done % 8 == 0:
            wait(device)
    wait(device)
    return done / (perf_counter() - began)
