#include "cli/load_client.h"

#include <curl/curl.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

namespace tg {
namespace {

constexpr int kMostWaitMs = 100;        // until somebody asks whether to stop
constexpr double kMostAfterDone = 0.5;  // seconds between "[DONE]" and the end of the response
// More at once would make the last of them late, as libcurl connects one after another.
constexpr std::size_t kStartsAtOnce = 8;
constexpr long kConnectMs = 10000;
constexpr std::int64_t kOtherFiles = 64;  // standard streams, libraries, the resolver

// libcurl's easy and multi handles are both void*, so each needs a deleter of its own.
template <auto kFree>
struct FreedBy {
  void operator()(auto* handle) const { kFree(handle); }
};
using Easy = std::unique_ptr<CURL, FreedBy<curl_easy_cleanup>>;
using Multi = std::unique_ptr<CURLM, FreedBy<curl_multi_cleanup>>;
using Url = std::unique_ptr<CURLU, FreedBy<curl_url_cleanup>>;
using Headers = std::unique_ptr<curl_slist, FreedBy<curl_slist_free_all>>;

bool curl_is_ready() {
  static const CURLcode kReady = curl_global_init(CURL_GLOBAL_DEFAULT);
  return kReady == CURLE_OK;
}

bool is_loopback_url(const std::string& url) {
  const Url parsed(curl_url());
  char* text = nullptr;
  if (curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK ||
      curl_url_get(parsed.get(), CURLUPART_HOST, &text, 0) != CURLUE_OK) {
    return false;
  }
  const std::string host = text;
  curl_free(text);
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

void append_header(Headers& headers, const std::string& line) {
  // The list's head stays the same once there is one.
  curl_slist* list = curl_slist_append(headers.get(), line.c_str());
  if (headers == nullptr) headers.reset(list);
}

Headers headers_for(const LoadServer& server) {
  Headers headers;
  append_header(headers, "Content-Type: application/json");
  append_header(headers, "Accept: text/event-stream");
  append_header(headers, "Expect:");  // of a large prompt libcurl would wait for a "100 Continue"
  if (!server.api_key.empty()) append_header(headers, "Authorization: Bearer " + server.api_key);
  return headers;
}

// What is the same in every request; `message` has room for CURL_ERROR_SIZE characters.
void set_up(CURL* easy, const std::string& url, curl_slist* headers, char* message) {
  curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, message);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, kConnectMs);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "llama-tg");
  // A proxy of the environment has another 127.0.0.1.
  if (is_loopback_url(url)) curl_easy_setopt(easy, CURLOPT_PROXY, "");
}

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

// One request on its way. Its address is libcurl's, so it stays where it is.
struct LoadTransfer {
  LoadTransfer(std::size_t number, LoadRequest what, const Stopwatch& clock)
      : index(number),
        request(std::move(what)),
        watch(clock),
        reader(clock.seconds(), request.prompt_tokens),
        easy(curl_easy_init()) {}

  std::size_t index;
  LoadRequest request;
  const Stopwatch& watch;
  AnswerReader reader;
  Easy easy;
  char message[CURL_ERROR_SIZE] = {};
  struct Piece {
    double at_s;
    std::size_t end;  // in `bytes`
  };
  std::string bytes;  // not yet read
  std::vector<Piece> pieces;
  double last_s = watch.seconds();  // the request itself, or bytes of the answer
  std::optional<double> done_s;
};

// Only notes what came when: reading it here would delay the times of the other streams.
std::size_t note_bytes(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<LoadTransfer*>(user);
  transfer.bytes.append(data, size * count);
  transfer.pieces.push_back({transfer.watch.seconds(), transfer.bytes.size()});
  return size * count;
}

std::size_t append_bytes(char* data, std::size_t size, std::size_t count, void* user) {
  constexpr std::size_t kMost = std::size_t{16} << 20;
  auto& body = *static_cast<std::string*>(user);
  if (body.size() + size * count > kMost) return 0;  // ends the transfer
  body.append(data, size * count);
  return size * count;
}

// A connection is an open file: the soft limit is raised as far as the system lets us.
Status allow_connections(std::int64_t connections) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return {};
  const auto need = static_cast<rlim_t>(connections + kOtherFiles);
  if (need <= limit.rlim_cur) return {};
  if (need > limit.rlim_max) {
    return error(ErrorCode::kOutOfCapacity,
                 "{} connections at once and {} other files are more than the {} open files that "
                 "this process may have; --max-concurrency bounds them",
                 connections, kOtherFiles, limit.rlim_max);
  }
  limit.rlim_cur = need;
  static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));
  return {};
}

class LoadLoop {
 public:
  LoadLoop(const LoadServer& server, const LoadJob& job)
      : server_(server),
        job_(job),
        url_(server.base_url + server.endpoint),
        headers_(headers_for(server)),
        multi_(curl_multi_init()) {
    run_.answers.resize(job.starts_s.size());
    // Every connection is kept for the next request.
    curl_multi_setopt(multi_.get(), CURLMOPT_MAXCONNECTS, static_cast<long>(most_connections()));
  }
  ~LoadLoop() {
    for (const auto& transfer : active_) {
      curl_multi_remove_handle(multi_.get(), transfer->easy.get());
    }
  }
  LoadLoop(const LoadLoop&) = delete;
  LoadLoop& operator=(const LoadLoop&) = delete;

  std::int64_t most_connections() const {
    const auto requests = static_cast<std::int64_t>(job_.starts_s.size());
    return job_.max_concurrency > 0 ? std::min(job_.max_concurrency, requests) : requests;
  }

  Result<LoadRun> run() {
    if (multi_ == nullptr) return error(ErrorCode::kIo, "libcurl does not start");
    while (next_ < job_.starts_s.size() || !active_.empty()) {
      if (job_.stopped && job_.stopped()) {
        interrupt();
        break;
      }
      start_due();
      int running = 0;
      TG_RETURN_IF_ERROR(check(curl_multi_perform(multi_.get(), &running)));
      read_pieces();
      end_finished();
      if (may_start() && job_.starts_s[next_] <= watch_.seconds()) continue;
      TG_RETURN_IF_ERROR(check(curl_multi_poll(multi_.get(), nullptr, 0, wait_ms(), nullptr)));
    }
    return std::move(run_);
  }

 private:
  static Status check(CURLMcode code) {
    if (code == CURLM_OK) return {};
    return error(ErrorCode::kIo, "libcurl: {}", curl_multi_strerror(code));
  }

  bool may_start() const {
    return next_ < job_.starts_s.size() &&
           static_cast<std::int64_t>(active_.size()) < most_connections();
  }

  void start_due() {
    // Prompts are made first, so that the time this takes is nobody's latency.
    std::vector<LoadRequest> requests;
    const std::size_t room = static_cast<std::size_t>(most_connections()) - active_.size();
    const double now = watch_.seconds();
    while (requests.size() < std::min(room, kStartsAtOnce)) {
      const std::size_t index = next_ + requests.size();
      if (index >= job_.starts_s.size() || job_.starts_s[index] > now) break;
      requests.push_back(job_.request(index));
    }
    for (LoadRequest& request : requests) start(std::move(request));
    run_.most_concurrent =
        std::max(run_.most_concurrent, static_cast<std::int64_t>(active_.size()));
  }

  void start(LoadRequest request) {
    auto transfer = std::make_unique<LoadTransfer>(next_++, std::move(request), watch_);
    CURL* easy = transfer->easy.get();
    set_up(easy, url_, headers_.get(), transfer->message);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, transfer->request.body.data());
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(transfer->request.body.size()));
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, note_bytes);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer.get());
    curl_multi_add_handle(multi_.get(), easy);
    active_.push_back(std::move(transfer));
  }

  // Reads what came, and ends what needs no more of it.
  void read_pieces() {
    const double now = watch_.seconds();
    for (std::size_t i = active_.size(); i-- > 0;) {
      LoadTransfer& transfer = *active_[i];
      bool useful = true;
      std::size_t begin = 0;
      for (const LoadTransfer::Piece& piece : transfer.pieces) {
        useful = useful &&
                 transfer.reader.push(
                     piece.at_s, std::string_view(transfer.bytes).substr(begin, piece.end - begin));
        begin = piece.end;
      }
      if (!transfer.pieces.empty()) transfer.last_s = transfer.pieces.back().at_s;
      transfer.bytes.clear();
      transfer.pieces.clear();
      if (transfer.reader.done() && !transfer.done_s) transfer.done_s = now;
      if (!useful || (transfer.done_s && now - *transfer.done_s > kMostAfterDone)) {
        end(i, "");
      } else if (now - transfer.last_s > static_cast<double>(server_.most_silent_s)) {
        // libcurl's own limit on slow transfers counts the request's bytes for some seconds.
        end(i, fmt::format("not a byte for {} s", server_.most_silent_s));
      }
    }
  }

  void end_finished() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      const CURLcode code = message->data.result;
      const auto found = std::find_if(
          active_.begin(), active_.end(),
          [easy = message->easy_handle](const auto& t) { return t->easy.get() == easy; });
      if (found == active_.end()) continue;
      const char* said = (*found)->message;
      std::string broken;
      if (code != CURLE_OK) broken = *said != '\0' ? said : curl_easy_strerror(code);
      end(static_cast<std::size_t>(found - active_.begin()), broken);
    }
  }

  void end(std::size_t place, const std::string& broken) {
    const std::unique_ptr<LoadTransfer> transfer = std::move(active_[place]);
    active_[place] = std::move(active_.back());
    active_.pop_back();
    long status = 0;
    curl_easy_getinfo(transfer->easy.get(), CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(multi_.get(), transfer->easy.get());
    run_.answers[transfer->index] = transfer->reader.finish(watch_.seconds(), status, broken);
    ++ended_;
    if (job_.progress) job_.progress(ended_);
  }

  void interrupt() {
    run_.stopped = true;
    for (const auto& transfer : active_) {
      AnswerReader& reader = transfer->reader;
      const double now = watch_.seconds();
      run_.answers[transfer->index] =
          reader.done() ? reader.finish(now, kHttpOk, "") : reader.interrupt(now);
    }
    run_.answers.resize(next_);
  }

  int wait_ms() const {
    if (!may_start()) return kMostWaitMs;
    const double wait = std::ceil((job_.starts_s[next_] - watch_.seconds()) * 1e3);
    return static_cast<int>(std::clamp(wait, 0.0, static_cast<double>(kMostWaitMs)));
  }

  const LoadServer& server_;
  const LoadJob& job_;
  const std::string url_;
  const Headers headers_;
  const Multi multi_;
  const Stopwatch watch_;
  std::vector<std::unique_ptr<LoadTransfer>> active_;
  std::size_t next_ = 0;
  std::size_t ended_ = 0;
  LoadRun run_;
};

}  // namespace

Result<LoadRun> run_load(const LoadServer& server, const LoadJob& job) {
  if (!curl_is_ready()) return error(ErrorCode::kIo, "libcurl does not start");
  LoadLoop loop(server, job);
  TG_RETURN_IF_ERROR(allow_connections(loop.most_connections()));
  return loop.run();
}

Result<ServerReply> ask_server(const LoadServer& server, const std::string& path) {
  const Easy easy(curl_is_ready() ? curl_easy_init() : nullptr);
  if (easy == nullptr) return error(ErrorCode::kIo, "libcurl does not start");
  const std::string url = server.base_url + path;
  const Headers headers = headers_for(server);
  char message[CURL_ERROR_SIZE] = {};
  ServerReply reply;
  set_up(easy.get(), url, headers.get(), message);
  curl_easy_setopt(easy.get(), CURLOPT_TIMEOUT_MS, kConnectMs);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, append_bytes);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &reply.body);
  const CURLcode code = curl_easy_perform(easy.get());
  if (code != CURLE_OK) {
    return error(ErrorCode::kIo, "{}: no server answers: {}", server.base_url,
                 *message != '\0' ? message : curl_easy_strerror(code));
  }
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &reply.status);
  return reply;
}

}  // namespace tg
