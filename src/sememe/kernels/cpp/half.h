// IEEE half precision to float32, for loop files: a function of its own in every level.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

inline float widened(uint16_t half) {
#if defined(__F16C__)
  return _cvtsh_ss(half);
#else
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, rest = half & 0x7FFF;
  if (rest >= 0x7C00 || rest < 0x400) {  // infinity, or no leading one: the value in units of 2^-24
    float small = static_cast<float>(rest) * 5.9604644775390625e-8f;
    uint32_t bits;
    memcpy(&bits, &small, 4);
    if (rest >= 0x7C00) bits = 0x7F800000u | (rest & 0x3FF) << 13;
    bits |= sign;
    memcpy(&small, &bits, 4);
    return small;
  }
  const uint32_t bits = sign | ((rest << 13) + (112u << 23));
  float value;
  memcpy(&value, &bits, 4);
  return value;
#endif
}

}  // namespace
}  // namespace SEMEME_LEVEL
}  // namespace sememe
