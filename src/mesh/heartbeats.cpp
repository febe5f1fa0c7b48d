#include "mesh/heartbeats.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <utility>

namespace tg {
namespace {

// Read at once; a flood of strangers' letters must not hold the reader.
constexpr int kMostLetters = 10000;

// Ranks of one job run the same program, on machines of the same byte order.
struct Letter {
  std::uint64_t job = 0;
  std::int32_t rank = 0;
  std::int32_t status = 0;
  Sign sign = Sign::kAlive;
  std::uint8_t waiting = 0;
  std::uint64_t waits = 0;
};

std::string link_text(const char* path) {
  std::array<char, 256> text{};
  return ::readlink(path, text.data(), text.size() - 1) < 0 ? std::string() : text.data();
}

// Names alone do not tell machines apart (many are called localhost), nor do the numbers of
// namespaces (the first one has the same everywhere). 0, which equals no other, when unknown.
std::uint64_t space_of(const char* name_space) {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string boot;
  const std::string space = link_text(name_space);
  if (!(in >> boot) || space.empty()) return 0;
  return std::hash<std::string>()(boot + space);
}

sockaddr_in socket_address(std::uint32_t address, std::uint32_t port) {
  sockaddr_in socket{};
  socket.sin_family = AF_INET;
  socket.sin_addr.s_addr = address;
  socket.sin_port = static_cast<in_port_t>(port);
  return socket;
}

std::array<std::uint32_t, 8> own_addresses() {
  std::array<std::uint32_t, 8> addresses{};
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return addresses;
  std::size_t count = 0;
  for (const ifaddrs* i = list; i != nullptr && count < addresses.size(); i = i->ifa_next) {
    if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != AF_INET) continue;
    if ((i->ifa_flags & IFF_UP) == 0 || (i->ifa_flags & IFF_LOOPBACK) != 0) continue;
    sockaddr_in address{};
    std::memcpy(&address, i->ifa_addr, sizeof(address));
    addresses[count++] = address.sin_addr.s_addr;
  }
  ::freeifaddrs(list);
  return addresses;
}

}  // namespace

Result<Heartbeats> Heartbeats::open() {
  Heartbeats beats(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_in any = socket_address(htonl(INADDR_ANY), 0);
  socklen_t size = sizeof(any);
  if (beats.socket_ < 0 ||
      ::bind(beats.socket_, reinterpret_cast<const sockaddr*>(&any), sizeof(any)) != 0 ||
      ::getsockname(beats.socket_, reinterpret_cast<sockaddr*>(&any), &size) != 0) {
    return error(ErrorCode::kIo, "no socket for the ranks' heartbeats: {}", std::strerror(errno));
  }
  beats.here_.processes = space_of("/proc/self/ns/pid");
  beats.here_.network = space_of("/proc/self/ns/net");
  beats.here_.pid = ::getpid();
  beats.here_.port = any.sin_port;
  beats.here_.addresses = own_addresses();
  return beats;
}

Heartbeats::Heartbeats(Heartbeats&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)),
      rank_(other.rank_),
      job_(other.job_),
      here_(other.here_),
      all_(std::move(other.all_)),
      known_(std::move(other.known_)) {}

Heartbeats::~Heartbeats() {
  if (socket_ >= 0) ::close(socket_);
}

void Heartbeats::join(int rank, std::vector<Whereabouts> all, std::uint64_t job) {
  rank_ = rank;
  job_ = job;
  all_ = std::move(all);
  known_.assign(all_.size(), sockaddr_in{});
}

pid_t Heartbeats::visible_pid(int rank) const {
  const Whereabouts& there = all_[static_cast<std::size_t>(rank)];
  return here_.processes != 0 && there.processes == here_.processes ? static_cast<pid_t>(there.pid)
                                                                    : 0;
}

void Heartbeats::send(Sign sign, int status, Progress progress) {
  Letter letter;
  std::memset(static_cast<void*>(&letter), 0, sizeof(letter));  // the gaps travel, too
  letter.job = job_;
  letter.rank = rank_;
  letter.status = status;
  letter.sign = sign;
  letter.waiting = progress.waiting ? 1 : 0;
  letter.waits = progress.waits;
  for (std::size_t r = 0; r < all_.size(); ++r) {
    const Whereabouts& there = all_[r];
    if (static_cast<int>(r) == rank_) continue;
    if (here_.network != 0 && there.network == here_.network) {
      send_to(socket_address(htonl(INADDR_LOOPBACK), there.port), &letter, sizeof(letter));
    } else if (known_[r].sin_family == AF_INET) {
      send_to(known_[r], &letter, sizeof(letter));
    } else {
      for (const std::uint32_t address : there.addresses) {
        if (address != 0) send_to(socket_address(address, there.port), &letter, sizeof(letter));
      }
    }
  }
}

void Heartbeats::send_to(const sockaddr_in& address, const void* letter, std::size_t bytes) const {
  // A failure is the reader's silence: what is lost here shows there.
  static_cast<void>(::sendto(socket_, letter, bytes, MSG_DONTWAIT | MSG_NOSIGNAL,
                             reinterpret_cast<const sockaddr*>(&address), sizeof(address)));
}

std::vector<Heartbeats::Beat> Heartbeats::hear() {
  std::vector<Beat> beats;
  for (int i = 0; i < kMostLetters; ++i) {
    Letter letter;
    sockaddr_in from{};
    socklen_t size = sizeof(from);
    const ssize_t bytes = ::recvfrom(socket_, &letter, sizeof(letter), MSG_DONTWAIT | MSG_TRUNC,
                                     reinterpret_cast<sockaddr*>(&from), &size);
    if (bytes < 0) break;
    const bool ours = bytes == sizeof(letter) && letter.job == job_ && letter.rank >= 0 &&
                      letter.rank < static_cast<std::int32_t>(all_.size()) &&
                      letter.rank != rank_ && letter.sign <= Sign::kHasSaid;
    if (!ours) continue;
    known_[static_cast<std::size_t>(letter.rank)] = from;
    beats.push_back({letter.rank, letter.sign, letter.status, {letter.waits, letter.waiting != 0}});
  }
  return beats;
}

}  // namespace tg
