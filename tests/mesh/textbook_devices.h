// What: a mesh's collectives as a textbook tells them: devices that own their vectors and send each
//   other messages step by step, over links of which it counts the bytes. It shares nothing with
//   src/mesh but the payload's encoding (which has golden values of its own).
// Who owns: the test. Thread: one.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "mesh/hop_schedule.h"
#include "mesh/payload.h"

namespace tg::test {

using Floats = std::vector<float>;

// The n devices along one axis, and the links between neighbours; only a ring's last device has one
// to the first.
class TextbookDevices {
 public:
  TextbookDevices(std::int64_t n, HopAlgorithm algorithm, PayloadDType payload)
      : n_(static_cast<std::size_t>(n)),
        algorithm_(algorithm),
        payload_(payload),
        bytes_(n_ * n_, 0) {}

  // rows[device][segment]: each device's summand, cut into segments. Gives what device i has of
  // segment i at the end.
  std::vector<Floats> reduce_scatter(const std::vector<std::vector<Floats>>& rows) {
    auto sums = rows;
    if (algorithm_ == HopAlgorithm::kRing) {
      for (std::size_t step = 1; step < n_; ++step) {
        std::vector<Floats> mail(n_);
        for (std::size_t d = 0; d < n_; ++d) {
          mail[(d + 1) % n_] = send(d, (d + 1) % n_, sums[d][(d + n_ - step) % n_]);
        }
        for (std::size_t d = 0; d < n_; ++d) {
          const std::size_t segment = (d + 2 * n_ - 1 - step) % n_;
          sums[d][segment] = plus(mail[d], rows[d][segment]);
        }
      }
    } else {
      // What belongs further right goes from the left end to the right, adding up, and the mirror
      // image; an owner adds its own to what comes from the left, then what comes from the right.
      std::vector<std::vector<Floats>> from_right(n_, std::vector<Floats>(n_));
      for (std::size_t d = 0; d + 1 < n_; ++d) {
        for (std::size_t s = d + 1; s < n_; ++s) {
          sums[d + 1][s] = plus(send(d, d + 1, sums[d][s]), rows[d + 1][s]);
        }
      }
      for (std::size_t d = n_; d-- > 1;) {
        for (std::size_t s = 0; s < d; ++s) {
          const Floats& so_far = d + 1 == n_ ? rows[d][s] : from_right[d][s];
          const Floats arrived = send(d, d - 1, so_far);
          from_right[d - 1][s] = s == d - 1 ? arrived : plus(arrived, rows[d - 1][s]);
        }
      }
      for (std::size_t d = 0; d + 1 < n_; ++d) sums[d][d] = plus(sums[d][d], from_right[d][d]);
    }
    std::vector<Floats> owned(n_);
    for (std::size_t d = 0; d < n_; ++d) owned[d] = sums[d][d];
    return owned;
  }

  // owned[i]: segment i, on device i. Gives [device][segment], every device's copy. An owner keeps
  // what it sent in the form in which it arrives, so that all copies are equal.
  std::vector<std::vector<Floats>> all_gather(const std::vector<Floats>& owned) {
    std::vector<std::vector<Floats>> copies(n_, std::vector<Floats>(n_));
    for (std::size_t d = 0; d < n_; ++d) copies[d][d] = n_ > 1 ? as_sent(owned[d]) : owned[d];
    if (algorithm_ == HopAlgorithm::kRing) {
      for (std::size_t step = 0; step + 1 < n_; ++step) {
        for (std::size_t d = 0; d < n_; ++d) {
          const std::size_t segment = (d + n_ - step) % n_;
          copies[(d + 1) % n_][segment] = send(d, (d + 1) % n_, copies[d][segment]);
        }
      }
    } else {
      for (std::size_t d = 0; d + 1 < n_; ++d) {
        for (std::size_t s = 0; s <= d; ++s) copies[d + 1][s] = send(d, d + 1, copies[d][s]);
      }
      for (std::size_t d = n_; d-- > 1;) {
        for (std::size_t s = d; s < n_; ++s) copies[d - 1][s] = send(d, d - 1, copies[d][s]);
      }
    }
    return copies;
  }

  // [from * n + to]
  const std::vector<std::int64_t>& bytes() const { return bytes_; }

 private:
  static Floats plus(const Floats& a, const Floats& b) {
    Floats sum(a.size());
    for (std::size_t i = 0; i < a.size(); ++i) sum[i] = a[i] + b[i];
    return sum;
  }

  Floats as_sent(const Floats& row) const {
    std::vector<std::byte> message = encoded(row);
    Floats arrived(row.size());
    decode_payload(payload_, message.data(), arrived);
    return arrived;
  }

  std::vector<std::byte> encoded(const Floats& row) const {
    std::vector<std::byte> message(
        static_cast<std::size_t>(payload_bytes(payload_, static_cast<std::int64_t>(row.size()))));
    encode_payload(payload_, row, message.data());
    return message;
  }

  Floats send(std::size_t from, std::size_t to, const Floats& row) {
    const bool wraps = algorithm_ == HopAlgorithm::kRing && from + 1 == n_ && to == 0;
    EXPECT_TRUE(from + 1 == to || to + 1 == from || wraps) << from << " has no link to " << to;
    bytes_[from * n_ + to] += static_cast<std::int64_t>(encoded(row).size());
    return as_sent(row);
  }

  std::size_t n_;
  HopAlgorithm algorithm_;
  PayloadDType payload_;
  std::vector<std::int64_t> bytes_;
};

}  // namespace tg::test
