// The numbers that kernels.cpp works on: fp32 or bf16 in memory, fp32 while they are worked on, a block at a time.

#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

struct bf16 {
    uint16_t bits;
};

inline float read(float value) { return value; }
inline float read(bf16 value) { return std::bit_cast<float>(uint32_t(value.bits) << 16); }

inline void write(float &to, float value) { to = value; }
inline void write(bf16 &to, float value) {  // rounded to nearest, ties to even
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    to.bits = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// exp by 2^n * p(r), |r| <= ln(2) / 2; relative error below 2e-7 (Cephes, expf.c).
inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float n = std::floor(x * 1.44269504f + 0.5f);
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r) * r + r + 1.0f;
    return p * std::bit_cast<float>((int32_t(n) + 127) << 23);
}

// So many numbers are widened to fp32, worked on and narrowed again at a time. Compilers make several times quicker code
// of loops that stay in one type, and of loops whose end they know: what is left over is worked on like a whole block.
constexpr long block = 64;

inline long whole_blocks(long count) { return (count + block - 1) / block * block; }

template <class T> inline void widen(long count, const T *from, float *to) {
#pragma omp simd
    for (long i = 0; i < count; i++) to[i] = read(from[i]);
}

template <class T> inline void narrow(long count, const float *from, T *to) {
#pragma omp simd
    for (long i = 0; i < count; i++) write(to[i], from[i]);
}

// Of a whole block. In a loop of their own: with more arithmetic around them it was up to six times as slow.
inline void sigmoids(const float *x, float *y) {
#pragma omp simd
    for (long i = 0; i < block; i++) y[i] = 1.0f / (1.0f + exponential(-x[i]));
}

// Rows of numbers in fp32 while they are worked on, in whole blocks, one per thread.
inline float *scratch(long width) {
    thread_local std::vector<float> numbers;
    if (long(numbers.size()) < whole_blocks(width)) numbers.resize(whole_blocks(width));
    return numbers.data();
}

}  // namespace
