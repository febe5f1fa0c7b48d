// What: internal to the kernels layer: the numbers of our exp(), one formula for all vector widths:
//     n = round(x / ln 2),  r = x - n ln 2 (|r| <= ln 2 / 2),  exp(x) = 2^n * P(r)
//   The range reduction takes ln 2 in two parts, the first so short that n times it is exact (the
//   method of Cody and Waite, "Software Manual for the Elementary Functions", 1980). P(r) = 1 + r +
//   r^2 (c0 + c1 r + ... + c4 r^4), by Horner. c0..c4 minimise the largest relative error (our own
//   fit by iteratively reweighted least squares): 3e-9 before rounding; with it the result is
//   within 0.9 units in the last place over [-87, 88].
//   Below kLowest the result is 0, above kHighest infinity; a NaN stays one.
// Who owns: constants. Thread: any.
#pragma once

namespace tg::exp_constants {

inline constexpr float kLowest = -105.0F;   // exp() < 2^-150, half the smallest f32
inline constexpr float kSmallest = -87.0F;  // about the smallest x with a normal exp()
inline constexpr float kHighest = 89.0F;    // exp() > 2^128
inline constexpr float kLog2E = 0x1.715476p+0F;
inline constexpr float kLn2High = 0x1.63p-1F;
inline constexpr float kLn2Low = -0x1.bd0106p-13F;
inline constexpr float kC0 = 0x1.fffffcp-2F;
inline constexpr float kC1 = 0x1.555490p-3F;
inline constexpr float kC2 = 0x1.5558f4p-5F;
inline constexpr float kC3 = 0x1.123a6ap-7F;
inline constexpr float kC4 = 0x1.6a233cp-10F;

// The same polynomial for 2^r, |r| <= 1/2: its coefficients times powers of ln 2.
inline constexpr double kLn2 = 0.693147180559945309;
inline constexpr float kLowestExp2 = -126.0F;  // exponent of the smallest normal number
inline constexpr auto kTwo1 = static_cast<float>(kLn2);
inline constexpr auto kTwo2 = static_cast<float>(kC0 * kLn2 * kLn2);
inline constexpr auto kTwo3 = static_cast<float>(kC1 * kLn2 * kLn2 * kLn2);
inline constexpr auto kTwo4 = static_cast<float>(kC2 * kLn2 * kLn2 * kLn2 * kLn2);
inline constexpr auto kTwo5 = static_cast<float>(kC3 * kLn2 * kLn2 * kLn2 * kLn2 * kLn2);
inline constexpr auto kTwo6 = static_cast<float>(kC4 * kLn2 * kLn2 * kLn2 * kLn2 * kLn2 * kLn2);

}  // namespace tg::exp_constants
