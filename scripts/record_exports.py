"""Record what PyTorch's two exporters write for the pieces of transformers, for the tests of the graph passes.

    pip install torch==2.13.0 onnxscript onnx
    python scripts/record_exports.py

Writes tests/passes/data/NAME.EXPORTER-OPSET.onnx: EXPORTER is `script` (torch.jit) or `dynamo` (torch.export). Weights
are tiny and random; notes of the exporters about their sources are dropped.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn
from torch.nn import functional

DATA = Path(__file__).resolve().parent.parent / "tests" / "passes" / "data"
Tensor = torch.Tensor


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class RMS(nn.Module):
    """The norm of Llama and T5 as their code spells it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        variance = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + 1e-6))


class Bert(nn.Module):
    """Self-attention with a padding mask, residual and norm, as in BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.norm = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.LayerNorm(8)

    def heads(self, x: Tensor) -> Tensor:
        return x.view((*x.size()[:-1], 2, 4)).permute(0, 2, 1, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        hidden = (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        q, k, v = self.heads(self.q(x)), self.heads(self.k(x)), self.heads(self.v(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(4) + hidden
        y = torch.matmul(functional.softmax(scores, dim=-1), v).permute(0, 2, 1, 3).contiguous()
        return self.norm(y.view((*y.size()[:-2], 8)) + x)


class GPT2(nn.Module):
    """Causal self-attention with one projection and a table of the triangle, as in GPT-2."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Linear(8, 24)
        self.register_buffer("bias", torch.tril(torch.ones(1, 1, 16, 16, dtype=torch.bool)))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.c(x).split(8, dim=2)
        q, k, v = (part.view(part.shape[0], part.shape[1], 2, 4).permute(0, 2, 1, 3) for part in parts)
        scores = torch.matmul(q, k.transpose(-1, -2)) / torch.full([], 4**0.5)
        queries, keys = q.size(-2), k.size(-2)
        causal = self.bias[:, :, keys - queries : keys, :keys]
        scores = torch.where(causal, scores, torch.full([], torch.finfo(scores.dtype).min))
        return torch.matmul(functional.softmax(scores, -1), v).permute(0, 2, 1, 3).reshape(x.shape)


def rotated(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def repeated(x: Tensor, times: int) -> Tensor:
    batch, heads, length, size = x.shape
    return x[:, :, None, :, :].expand(batch, heads, times, length, size).reshape(batch, heads * times, length, size)


class Llama(nn.Module):
    """Self-attention with rotary positions, two heads of keys for four of queries, and a mask from outside."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.q, self.o = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)
        self.k, self.v = nn.Linear(16, 8, bias=False), nn.Linear(16, 8, bias=False)
        self.register_buffer("frequencies", 1 / (10000 ** (torch.arange(0, 4, 2).float() / 4)))
        self.fused = fused

    def forward(self, x: Tensor, position_ids: Tensor, mask: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (one(x).view(batch, length, -1, 4).transpose(1, 2) for one in (self.q, self.k, self.v))
        frequencies = self.frequencies[None, :, None].float().expand(position_ids.shape[0], -1, 1)
        angles = (frequencies @ position_ids[:, None, :].float()).transpose(1, 2)
        both = torch.cat((angles, angles), -1)
        cos, sin = both.cos().unsqueeze(1), both.sin().unsqueeze(1)
        q, k = q * cos + rotated(q) * sin, k * cos + rotated(k) * sin
        k, v = repeated(k, 2), repeated(v, 2)
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            scores = torch.matmul(q, k.transpose(2, 3)) * 4**-0.5 + mask
            y = torch.matmul(functional.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype), v)
        return self.o(y.transpose(1, 2).reshape(batch, length, -1))


def new_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def cases() -> dict[str, tuple[nn.Module, tuple[Tensor, ...], str]]:
    """Module, inputs, and the exporters it is recorded from."""
    x, q, k = torch.randn(2, 5, 8), torch.randn(2, 2, 5, 4), torch.randn(2, 2, 7, 4)
    attention = Call(functional.scaled_dot_product_attention)
    positions, hidden, wide = (
        torch.arange(5)[None].expand(2, 5).contiguous(),
        torch.zeros(2, 1, 5, 5),
        torch.randn(2, 5, 16),
    )
    both = "script-17 dynamo-18"
    return {
        "layernorm": (nn.LayerNorm(8), (x,), "script-14"),
        "layernorm-plain": (nn.LayerNorm(8, elementwise_affine=False), (x,), "script-14"),
        "rmsnorm": (nn.RMSNorm(8), (x,), "dynamo-18"),
        "rmsnorm-spelled": (RMS(), (x,), both),
        "gelu": (nn.GELU(), (x,), both),
        "gelu-tanh": (nn.GELU("tanh"), (x,), both),
        "gelu-spelled": (Call(new_gelu), (x,), both),
        "silu": (nn.SiLU(), (x,), both),
        "mish": (nn.Mish(), (x,), "script-17"),
        "attention": (attention, (q, k, k.clone()), both),
        "attention-float-mask": (attention, (q, k, k.clone(), torch.randn(2, 1, 5, 7)), both),
        "attention-bool-mask": (attention, (q, k, k.clone(), torch.rand(2, 1, 5, 7) > 0.3), both),
        "attention-causal": (Call(causal), (q, q.clone(), q.clone()), both),
        "multihead": (nn.MultiheadAttention(8, 2, batch_first=True), (x, x.clone(), x.clone()), "script-17"),
        "encoder-layer": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True), (x,), "dynamo-18"),
        "bert": (Bert(), (x, torch.ones(2, 5, dtype=torch.int64)), both),
        "gpt2": (GPT2(), (x,), both),
        "llama": (Llama(False), (wide, positions, hidden), both),
        "llama-fused": (Llama(True), (wide, positions, hidden), f"{both} dynamo-23"),
    }


LENGTHS = {"multihead", "encoder-layer", "bert", "gpt2", "llama", "llama-fused"}
"""Where the length is open, and not only the batch."""


def export(name: str, module: nn.Module, inputs: tuple[Tensor, ...], how: str, path: Path) -> None:
    exporter, opset = how.split("-")
    names = [f"x{index}" for index in range(len(inputs))]
    axes: dict[str, dict[int, str]] = {one: {0: "B", 1: "S"} if name in LENGTHS else {0: "B"} for one in names}
    if name.startswith("llama"):
        axes["x2"] = {0: "B", 2: "S", 3: "S"}
    shared: dict[str, Any] = {"opset_version": int(opset), "input_names": names, "output_names": ["y"]}
    if exporter == "script":
        torch.onnx.export(module, inputs, str(path), dynamo=False, dynamic_axes=axes, **shared)
    else:
        shapes = tuple(dict.fromkeys(axes[one], torch.export.Dim.DYNAMIC) for one in names)
        dynamic = (shapes,) if isinstance(module, Call) else shapes
        options = {"external_data": False, "verbose": False}
        torch.onnx.export(module, inputs, str(path), dynamo=True, dynamic_shapes=dynamic, **options, **shared)


def stripped(graph: onnx.GraphProto) -> None:
    graph.doc_string = ""
    del graph.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]


def main() -> None:
    torch.manual_seed(0)
    DATA.mkdir(exist_ok=True)
    for name, (module, inputs, exporters) in cases().items():
        for how in exporters.split():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                export(name, module.eval(), inputs, how, path)
                model = onnx.load(path)
            stripped(model.graph)
            for function in model.functions:
                function.doc_string = ""
                for node in function.node:
                    node.doc_string = ""
                    del node.metadata_props[:]
            model.doc_string = ""
            del model.metadata_props[:]
            onnx.save(model, DATA / f"{name}.{how}.onnx")


if __name__ == "__main__":
    main()
