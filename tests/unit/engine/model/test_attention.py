"""The hand-written attention against torch's own, document by document."""

import pytest
import torch
from torch.nn import functional

from engine.errors import SpecError
from engine.model import attention
from engine.model.attention import packed_attention

MODULE = torch.nn.Identity()


def states(heads: int, groups: int, tokens: int, dtype=torch.float64):
    torch.manual_seed(0)
    shapes = [(1, heads, tokens, 8), (1, heads // groups, tokens, 8), (1, heads // groups, tokens, 8)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def reference(q, k, v, segments, window=None):
    outs, start = [], 0
    for length in segments:
        part = slice(start, start + length)
        distance = torch.arange(length)[:, None] - torch.arange(length)[None]
        seen = (distance >= 0) & (distance < (window or length))
        repeat = q.shape[1] // k.shape[1]
        keys, values = (x[:, :, part].repeat_interleave(repeat, dim=1) for x in (k, v))
        outs.append(functional.scaled_dot_product_attention(q[:, :, part], keys, values, attn_mask=seen))
        start += length
    return torch.cat(outs, dim=2).transpose(1, 2)


@pytest.fixture(params=[1, 8, 64], ids="ends at {}".format)
def step(request, monkeypatch):
    """What a document's blocks are filled up to: 64 where matmuls are in 16 bits."""
    monkeypatch.setattr(attention.shape_rounding, "step_of", lambda *_: request.param)


@pytest.mark.usefixtures("step")
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("window", [None, 5, 300])
@pytest.mark.parametrize("segments", [(7,), (1, 12, 3), (256, 257), (600, 4)])
def test_output_and_gradients_equal_those_of_dense_attention_a_document(groups, window, segments):
    q, k, v = states(4, groups, sum(segments))
    weights = torch.randn(1, sum(segments), 4, 8, dtype=torch.float64)
    expected = torch.autograd.grad((reference(q, k, v, segments, window) * weights).sum(), (q, k, v))
    out, _ = packed_attention(MODULE, q, k, v, None, segments=segments, sliding_window=window)
    ours = torch.autograd.grad((out * weights).sum(), (q, k, v))
    torch.testing.assert_close(out, reference(q, k, v, segments, window))
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def repeated(states, segments, prefixes):
    """The row with every prefix written out again ahead of the document that begins with it."""
    parts, start = [], 0
    for length, (begin, end) in zip(segments, prefixes, strict=True):
        parts += [states[:, :, begin:end], states[:, :, start : start + length]]
        start += length
    return torch.cat(parts, dim=2)


def own_rows(segments, prefixes) -> torch.Tensor:
    """Where in the written-out row the documents' own tokens are."""
    own, start = [], 0
    for length, (begin, end) in zip(segments, prefixes, strict=True):
        own.append(torch.arange(start + end - begin, start + end - begin + length))
        start += end - begin + length
    return torch.cat(own)


SHARED = [((9, 4), ((0, 0), (0, 6))), ((5, 3, 300, 280), ((0, 0), (0, 5), (0, 0), (8, 290)))]


@pytest.mark.usefixtures("step")
@pytest.mark.parametrize("window", [None, 5, 300])
@pytest.mark.parametrize(("segments", "prefixes"), SHARED)
@pytest.mark.parametrize("path", ["own", "sdpa"])
def test_a_shared_prefix_is_attended_to_and_learns_as_if_it_were_repeated(
    monkeypatch, path, segments, prefixes, window
):
    if path == "sdpa":  # what runs on a GPU
        monkeypatch.setattr(attention._PerDocument, "apply", attention._sdpa_per_document)
    q, k, v = states(4, 2, sum(segments))
    weights = torch.randn(1, sum(segments), 4, 8, dtype=torch.float64)
    lengths = [length + end - begin for length, (begin, end) in zip(segments, prefixes, strict=True)]
    dense = reference(*(repeated(x, segments, prefixes) for x in (q, k, v)), lengths, window)
    expected = dense[:, own_rows(segments, prefixes)]
    wanted = torch.autograd.grad((expected * weights).sum(), (q, k, v))
    out, _ = packed_attention(MODULE, q, k, v, None, segments=segments, prefixes=prefixes, sliding_window=window)
    torch.testing.assert_close(out, expected)
    for mine, theirs in zip(torch.autograd.grad((out * weights).sum(), (q, k, v)), wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_under_bf16_autocast_it_stays_near_fp32():
    q, k, v = states(4, 2, 40, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, _ = packed_attention(MODULE, q, k, v, None, segments=(15, 25))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), reference(q, k, v, (15, 25)), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("broken", [0, 1, 2])
def test_what_is_no_number_stays_in_its_document(dtype, broken):
    segments = (20, 20, 24)
    spans = [slice(0, 20), slice(20, 40), slice(40, 64)]
    whole = [x.detach() for x in states(4, 2, 64, torch.float32)]
    for x in whole:
        x[:, :, spans[broken]] = float("nan")
    q, k, v = (x.to(dtype).requires_grad_() for x in whole)
    out, _ = packed_attention(MODULE, q, k, v, None, segments=segments)
    out.float().sum().backward()
    for number, span in enumerate(spans):
        assert bool(out[:, span].isnan().any()) == (number == broken)
        for x in (q, k, v):
            assert bool(x.grad[:, :, span].isnan().any()) == (number == broken)


def test_what_lies_behind_the_documents_attends_to_nothing():
    q, k, v = states(4, 2, 30, torch.float32)
    out, _ = packed_attention(MODULE, q, k, v, None, segments=(7, 13))
    alone, _ = packed_attention(MODULE, *(x[:, :, :20] for x in (q, k, v)), None, segments=(7, 13))
    torch.testing.assert_close(out[:, :20], alone)
    assert not out[:, 20:].any()


def test_a_model_that_caps_its_scores_is_refused():
    q, k, v = states(4, 1, 4)
    with pytest.raises(SpecError, match="caps its scores"):
        packed_attention(MODULE, q, k, v, None, segments=(4,), softcap=30.0)
