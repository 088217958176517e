"""The GPU's attention as far as a CPU can tell: which kernel is taken, and what it is given.

A plain attention in float64 stands where the kernel would, with the meaning that flash-attn and torch document for
cumulative lengths, bottom-right causality and windows.
"""

import pytest
import torch

from engine.model import attention, flash
from engine.model.documents import documents_of
from engine.model.flash import Spans, attend, path_for, spans_of

CPU = torch.device("cpu")
ROWS = [
    ((7,), ()),
    ((1, 12, 3), ()),
    ((9, 4), ((0, 0), (0, 6))),
    ((5, 3, 30, 28), ((0, 0), (0, 5), (0, 0), (8, 29))),
]


def plain(q, k, v, spans: Spans, scale, window):
    """What the kernels compute, document by document."""
    outs = []
    queries, keys = (torch.stack([ends[:-1], ends[1:]], 1).tolist() for ends in (spans.queries, spans.keys))
    for own, all_of_it in zip(queries, keys, strict=True):
        part = q[slice(*own)]
        whole_k, whole_v = (x[slice(*all_of_it)].repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
        assert len(part) <= spans.longest_queries
        assert len(whole_k) <= spans.longest_keys
        place = torch.arange(len(part))[:, None] + len(whole_k) - len(part)
        key = torch.arange(len(whole_k))[None]
        seen = key <= place + window[1]
        if window[0] >= 0:
            seen &= key >= place - window[0]
        scores = torch.einsum("qhd,khd->hqk", part, whole_k) * scale
        outs.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, float("-inf")).softmax(-1), whole_v))
    return torch.cat(outs)


def states(tokens: int):
    torch.manual_seed(0)
    shapes = [(4, tokens, 8), (2, tokens, 8), (2, tokens, 8)]
    return tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)


def by_document(q, k, v, segments, prefixes, window):
    row = attention.Row(documents_of(segments, prefixes), 0.3, window)
    return attention._sdpa_per_document(q, k, v, row)


@pytest.mark.parametrize("window", [None, 1, 5])
@pytest.mark.parametrize(("segments", "prefixes"), ROWS)
def test_one_call_gives_outputs_and_gradients_of_attention_document_by_document(segments, prefixes, window):
    given = states(sum(segments))
    weights = torch.randn(4, sum(segments), 8, dtype=torch.float64)
    out = attend(given, spans_of(segments, prefixes, CPU), 0.3, window, plain)
    expected = by_document(*given, segments, prefixes, window)
    torch.testing.assert_close(out, expected)
    wanted = torch.autograd.grad((expected * weights).sum(), given)
    torch.testing.assert_close(torch.autograd.grad((out * weights).sum(), given), wanted)


def test_a_window_one_too_wide_would_be_noticed():
    given = states(16)
    out = attend(given, spans_of((16,), (), CPU), 0.3, 6, plain)
    assert not torch.allclose(out, by_document(*given, (16,), (), 5))


def test_a_prefix_left_out_would_be_noticed():
    given = states(13)
    out = attend(given, spans_of((9, 4), (), CPU), 0.3, None, plain)
    assert not torch.allclose(out, by_document(*given, (9, 4), ((0, 0), (0, 6)), None))


def test_spans_count_own_tokens_as_queries_and_prefixes_too_as_keys():
    spans = spans_of((9, 4), ((0, 0), (2, 6)), CPU)
    assert (spans.queries.tolist(), spans.keys.tolist()) == ([0, 9, 13], [0, 9, 17])
    assert (spans.longest_queries, spans.longest_keys) == (9, 9)
    assert spans.taken is not None
    assert spans.taken.tolist() == [*range(9), *range(2, 6), *range(9, 13)]
    assert spans.queries.dtype == spans.keys.dtype == torch.int32


def test_without_prefixes_keys_are_not_gathered():
    assert spans_of((9, 4), ((0, 0), (0, 0)), CPU).taken is None


def test_all_layers_of_a_batch_share_their_spans():
    assert spans_of((3, 2), (), CPU) is spans_of((3, 2), (), CPU)


BOTH = {"flash_attn": True, "varlen": True}
NEITHER = {"flash_attn": False, "varlen": False}


@pytest.mark.parametrize(
    ("device", "dtype", "width", "runs", "path"),
    [
        ("cpu", torch.bfloat16, 64, BOTH, "bmm"),
        ("cuda", torch.bfloat16, 64, BOTH, "flash-attn"),
        ("cuda", torch.float16, 128, {"flash_attn": False, "varlen": True}, "varlen"),
        ("cuda", torch.float32, 64, BOTH, "sdpa"),
        ("cuda", torch.bfloat16, 60, BOTH, "sdpa"),
        ("cuda", torch.bfloat16, 256, BOTH, "sdpa"),
        ("cuda", torch.bfloat16, 64, NEITHER, "sdpa"),
    ],
)
def test_the_quickest_path_that_can_run_is_taken(device, dtype, width, runs, path):
    assert path_for(device, dtype, width, **runs) == path


def test_the_path_of_this_machine_is_told_of_its_device():
    assert flash.path_on(CPU, torch.bfloat16, 64) == "bmm"


def test_torch_takes_what_its_kernel_is_given():
    """Shapes and arguments alone: torch computes no numbers on `meta`."""
    q, k, v = (torch.empty(heads, 13, 64, dtype=torch.bfloat16, device="meta") for heads in (4, 2, 2))
    spans = spans_of((9, 4), ((0, 0), (0, 6)), torch.device("meta"))
    assert attend((q, k, v), spans, 0.3, 5, flash.kernel_of("varlen")).shape == (4, 13, 64)
