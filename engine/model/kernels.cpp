// The pointwise work of training on the CPU, each piece in one pass over memory. Sums and transcendental functions
// are in fp32 whatever the type T of the activations; the residual stream is fp32 throughout.
// Shapes: rows x width, row-major. heads: H query and K key/value heads of D, `tokens` rows.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <omp.h>

#include "numbers.h"

namespace {

// sum = x + delta (delta may be null: sum is then not written), y = weight * sum / rms(sum).
template <class T>
void norm(long rows, long width, const float *x, const T *delta, const float *weight, float eps, float *sum, T *y,
          float *inverse) {
#pragma omp parallel for
    for (long row = 0; row < rows; row++) {
        const float *in = x + row * width;
        T *out = y + row * width;
        if (delta) {
            const T *more = delta + row * width;
            float *total = sum + row * width;
#pragma omp simd
            for (long i = 0; i < width; i++) total[i] = in[i] + read(more[i]);
            in = total;
        }
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (long i = 0; i < width; i++) squares += in[i] * in[i];
        const float scale = 1.0f / std::sqrt(squares / float(width) + eps);
        inverse[row] = scale;
#pragma omp simd
        for (long i = 0; i < width; i++) write(out[i], in[i] * scale * weight[i]);
    }
}

// dx = residual + what flows back through the norm; low: the same in T. dweight: one row a thread, or null.
template <class T>
void norm_back(long rows, long width, const float *x, const float *weight, const float *inverse, const T *dy,
               const float *residual, float *dx, T *low, float *dweight) {
#pragma omp parallel
    {
        float *own = dweight ? dweight + omp_get_thread_num() * width : nullptr;
#pragma omp for schedule(static)
        for (long row = 0; row < rows; row++) {
            const float *in = x + row * width, *past = residual + row * width;
            const T *d = dy + row * width;
            float *out = dx + row * width;
            T *narrow = low + row * width;
            const float scale = inverse[row];
            float dot = 0;
#pragma omp simd reduction(+ : dot)
            for (long i = 0; i < width; i++) dot += read(d[i]) * weight[i] * in[i];
            const float back = dot * scale * scale * scale / float(width);
#pragma omp simd
            for (long i = 0; i < width; i++) {
                const float value = past[i] + read(d[i]) * weight[i] * scale - in[i] * back;
                out[i] = value;
                write(narrow[i], value);
            }
            if (!own) continue;
#pragma omp simd
            for (long i = 0; i < width; i++) own[i] += read(d[i]) * in[i] * scale;
        }
    }
}

// qkv [tokens, (H + 2K) D] to q [H, tokens, D] and k, v [K, tokens, D], queries and keys turned by their positions.
// `forward` false: the way back, from the gradients of q, k and v to that of qkv.
template <class T>
void rotary(long tokens, long queries, long keys, long width, const float *cosine, const float *sine, T *qkv, T *q,
            T *k, T *v, bool forward) {
    const long heads = queries + 2 * keys, half = width / 2;
#pragma omp parallel for
    for (long token = 0; token < tokens; token++) {
        const float *c = cosine + token * width, *s = sine + token * width;
        for (long head = 0; head < heads; head++) {
            T *flat = qkv + (token * heads + head) * width;
            const long key = head - queries, value = key - keys;
            T *split = (key < 0 ? q + head * tokens * width : value < 0 ? k + key * tokens * width : v + value * tokens * width) +
                       token * width;
            if (value >= 0) {
                const T *from = forward ? flat : split;
                T *to = forward ? split : flat;
#pragma omp simd
                for (long i = 0; i < width; i++) to[i] = from[i];
            } else if (forward) {
#pragma omp simd
                for (long i = 0; i < half; i++) {
                    const float a = read(flat[i]), b = read(flat[i + half]);
                    write(split[i], a * c[i] - b * s[i]);
                    write(split[i + half], b * c[i + half] + a * s[i + half]);
                }
            } else {
#pragma omp simd
                for (long i = 0; i < half; i++) {
                    const float a = read(split[i]), b = read(split[i + half]);
                    write(flat[i], a * c[i] + b * s[i + half]);
                    write(flat[i + half], b * c[i + half] - a * s[i]);
                }
            }
        }
    }
}

// gate_up [rows, 2 width] to y = silu(gate) * up.
template <class T> void swiglu(long rows, long width, const T *gate_up, T *y) {
#pragma omp parallel for
    for (long row = 0; row < rows; row++) {
        const T *gate = gate_up + 2 * row * width, *up = gate + width;
        float g[block] = {}, u[block] = {}, on[block];
        for (long at = 0; at < width; at += block) {
            const long count = std::min(block, width - at);
            widen(count, gate + at, g);
            widen(count, up + at, u);
            sigmoids(g, on);
#pragma omp simd
            for (long i = 0; i < block; i++) u[i] *= g[i] * on[i];
            narrow(count, u, y + row * width + at);
        }
    }
}

// dy to the gradient of gate_up; y is computed again, so that nobody has to keep it.
template <class T> void swiglu_back(long rows, long width, const T *gate_up, const T *dy, T *d_gate_up, T *y) {
#pragma omp parallel for
    for (long row = 0; row < rows; row++) {
        const T *gate = gate_up + 2 * row * width, *up = gate + width;
        T *d_gate = d_gate_up + 2 * row * width, *d_up = d_gate + width;
        float g[block] = {}, u[block] = {}, d[block] = {}, on[block], out[block];
        for (long at = 0; at < width; at += block) {
            const long count = std::min(block, width - at);
            widen(count, gate + at, g);
            widen(count, up + at, u);
            widen(count, dy + row * width + at, d);
            sigmoids(g, on);
#pragma omp simd
            for (long i = 0; i < block; i++) {
                const float act = g[i] * on[i], back = d[i];
                out[i] = act * u[i];
                g[i] = back * u[i] * (on[i] + act * (1.0f - on[i]));
                d[i] = back * act;
            }
            narrow(count, out, y + row * width + at);
            narrow(count, g, d_gate + at);
            narrow(count, d, d_up + at);
        }
    }
}

// to = exp(scale * from - highest), in `scratch`; returns their sum, and the highest. What fills the last block is so
// low that its exp adds nothing to a sum that is 1 at least. Maximum and sum are taken a lane at a time: one running
// number has an order that compilers must keep.
template <class T> float exponentials(long width, const T *from, float scale, float *to, float &highest) {
    constexpr long lanes = 16;
    const long filled = whole_blocks(width);
    float tops[lanes], sums[lanes] = {};
    std::fill(tops, tops + lanes, -INFINITY);
    widen(width, from, to);
    std::fill(to + width, to + filled, -INFINITY);
    for (long at = 0; at < filled; at += lanes) {
#pragma omp simd
        for (long lane = 0; lane < lanes; lane++) {
            const float value = to[at + lane] * scale;
            tops[lane] = value > tops[lane] ? value : tops[lane];
        }
    }
    const float top = highest = *std::max_element(tops, tops + lanes);
    for (long at = 0; at < filled; at += lanes) {
#pragma omp simd
        for (long lane = 0; lane < lanes; lane++) sums[lane] += to[at + lane] = exponential(to[at + lane] * scale - top);
    }
    return std::accumulate(sums, sums + lanes, 0.0f);
}

// Which keys query `row` sees: `before` are ahead of the first query, `period` queries of each head follow each other.
inline void span(long row, long period, long before, long window, long &first, long &end) {
    end = before + row % period + 1;
    first = window && end > window ? end - window : 0;
}

// Causal softmax over scale * scores [rows, keys] in place.
template <class T>
void softmax(long rows, long keys, long period, long before, long window, float scale, T *scores) {
#pragma omp parallel for
    for (long row = 0; row < rows; row++) {
        T *line = scores + row * keys;
        float *numbers = scratch(keys), highest;
        long first, end;
        span(row, period, before, window, first, end);
        const float part = 1.0f / exponentials(end - first, line + first, scale, numbers, highest);
        for (long i = 0; i < first; i++) write(line[i], 0.0f);
#pragma omp simd
        for (long i = first; i < end; i++) write(line[i], numbers[i - first] * part);
        for (long i = end; i < keys; i++) write(line[i], 0.0f);
    }
}

// d(probabilities) to d(scores) in place: scale * p * (dp - sum of p * dp).
template <class T>
void softmax_back(long rows, long keys, long period, long before, long window, float scale, const T *probabilities,
                  T *d) {
#pragma omp parallel for
    for (long row = 0; row < rows; row++) {
        const T *p = probabilities + row * keys;
        T *line = d + row * keys;
        long first, end;
        span(row, period, before, window, first, end);
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (long i = first; i < end; i++) dot += read(p[i]) * read(line[i]);
        for (long i = 0; i < first; i++) write(line[i], 0.0f);
#pragma omp simd
        for (long i = first; i < end; i++) write(line[i], scale * read(p[i]) * (read(line[i]) - dot));
        for (long i = end; i < keys; i++) write(line[i], 0.0f);
    }
}

// losses = -log p(label) of logits [rows, width], whose place their gradient takes: p - 1 at the label, p elsewhere.
template <class T> void cross_entropy(long rows, long width, const int64_t *labels, T *logits, float *losses) {
#pragma omp parallel for
    for (long row = 0; row < rows; row++) {
        T *line = logits + row * width;
        float *numbers = scratch(width), highest;
        const float sum = exponentials(width, line, 1.0f, numbers, highest), part = 1.0f / sum;
        const long label = labels[row];
        losses[row] = std::log(sum) + highest - read(line[label]);
        numbers[label] -= sum;
#pragma omp simd
        for (long i = 0; i < width; i++) write(line[i], numbers[i] * part);
    }
}

}  // namespace

#define KERNELS(T, NAME)                                                                                              \
    extern "C" void norm_##NAME(long rows, long width, const float *x, const T *delta, const float *weight,          \
                                float eps, float *sum, T *y, float *inverse) {                                       \
        norm(rows, width, x, delta, weight, eps, sum, y, inverse);                                                    \
    }                                                                                                                 \
    extern "C" void norm_back_##NAME(long rows, long width, const float *x, const float *weight,                     \
                                     const float *inverse, const T *dy, const float *residual, float *dx, T *low,    \
                                     float *dweight) {                                                                \
        norm_back(rows, width, x, weight, inverse, dy, residual, dx, low, dweight);                                   \
    }                                                                                                                 \
    extern "C" void rotary_##NAME(long tokens, long queries, long keys, long width, const float *cosine,             \
                                  const float *sine, T *qkv, T *q, T *k, T *v, bool forward) {                        \
        rotary(tokens, queries, keys, width, cosine, sine, qkv, q, k, v, forward);                                    \
    }                                                                                                                 \
    extern "C" void swiglu_##NAME(long rows, long width, const T *gate_up, T *y) { swiglu(rows, width, gate_up, y); } \
    extern "C" void swiglu_back_##NAME(long rows, long width, const T *gate_up, const T *dy, T *d_gate_up, T *y) {    \
        swiglu_back(rows, width, gate_up, dy, d_gate_up, y);                                                          \
    }                                                                                                                 \
    extern "C" void softmax_##NAME(long rows, long keys, long period, long before, long window, float scale,         \
                                   T *scores) {                                                                       \
        softmax(rows, keys, period, before, window, scale, scores);                                                   \
    }                                                                                                                 \
    extern "C" void softmax_back_##NAME(long rows, long keys, long period, long before, long window, float scale,    \
                                        const T *probabilities, T *d) {                                               \
        softmax_back(rows, keys, period, before, window, scale, probabilities, d);                                    \
    }                                                                                                                 \
    extern "C" void cross_entropy_##NAME(long rows, long width, const int64_t *labels, T *logits, float *losses) {    \
        cross_entropy(rows, width, labels, logits, losses);                                                           \
    }

KERNELS(float, fp32)
KERNELS(bf16, bf16)
