#include "cli/context_fetch.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <strings.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

#include "cli/write_file.h"
#include "text/utf8.h"

namespace tg {
namespace {

namespace fs = std::filesystem;

// 169.254.0.0/16, fe80::/10, and the first one written as IPv6: where cloud machines answer anybody
// on the machine with its secrets.
bool is_link_local(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof(v4));
    return (ntohl(v4.sin_addr.s_addr) >> 16) == 0xA9FE;
  }
  if (address.sa_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address, sizeof(v6));
    const std::uint8_t* b = v6.sin6_addr.s6_addr;
    if (b[0] == 0xFE && (b[1] & 0xC0) == 0x80) return true;
    return IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) && b[12] == 169 && b[13] == 254;
  }
  return false;
}

// The same for a host in a URL, which a proxy would connect to in our stead.
bool is_link_local(std::string host) {
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  host = host.substr(0, host.find('%'));  // fe80::1%eth0
  sockaddr_in v4{};
  if (inet_aton(host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    sockaddr any{};
    std::memcpy(&any, &v4, sizeof(any));
    return is_link_local(any);
  }
  in6_addr v6{};
  if (inet_pton(AF_INET6, host.c_str(), &v6) != 1) return false;
  return (v6.s6_addr[0] == 0xFE && (v6.s6_addr[1] & 0xC0) == 0x80) ||
         (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 169 && v6.s6_addr[13] == 254);
}

// One hop of a download.
struct Transfer {
  std::int64_t max_bytes = 0;
  std::string body;
  bool too_large = false;
  bool link_local = false;
};

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::size_t bytes = size * count;
  if (transfer.body.size() + bytes > static_cast<std::size_t>(transfer.max_bytes)) {
    transfer.too_large = true;
    return 0;  // ends the transfer
  }
  transfer.body.append(data, bytes);
  return bytes;
}

curl_socket_t on_open_socket(void* user, curlsocktype, curl_sockaddr* address) {
  if (is_link_local(address->addr)) {
    static_cast<Transfer*>(user)->link_local = true;
    return CURL_SOCKET_BAD;
  }
  return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

struct Freed {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
  void operator()(char* text) const { curl_free(text); }
};

// The part of a URL, or empty.
std::string part_of(CURLU* url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, 0) != CURLUE_OK) return {};
  const std::unique_ptr<char, Freed> owner(text);
  return text;
}

Status check_url(const std::string& url) {
  const std::unique_ptr<CURLU, Freed> parsed(curl_url());
  if (curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), CURLU_NON_SUPPORT_SCHEME) !=
      CURLUE_OK) {
    return error(ErrorCode::kBadArgument, "'{}' is no URL", url);
  }
  const std::string scheme = part_of(parsed.get(), CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") {
    return error(ErrorCode::kBadArgument, "scheme '{}' is not allowed, only http and https",
                 scheme);
  }
  if (is_link_local(part_of(parsed.get(), CURLUPART_HOST))) {
    return error(ErrorCode::kBadArgument, "{} is a link-local address, which is not allowed", url);
  }
  return {};
}

std::string latin1_to_utf8(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x80) {
      out += c;
    } else {
      out += static_cast<char>(0xC0 | (u >> 6));
      out += static_cast<char>(0x80 | (u & 0x3F));
    }
  }
  return out;
}

// "text/plain; charset=ISO-8859-1", the name with or without quotes.
bool is_latin1(const char* content_type) {
  if (content_type == nullptr) return false;
  const char* charset = strcasestr(content_type, "charset=");
  if (charset == nullptr) return false;
  charset += std::strlen("charset=");
  if (*charset == '"') ++charset;
  return strncasecmp(charset, "iso-8859-1", 10) == 0 &&
         std::isdigit(static_cast<unsigned char>(charset[10])) == 0;  // not iso-8859-15
}

std::string to_utf8(const std::string& bytes, const char* content_type) {
  if (is_latin1(content_type)) return latin1_to_utf8(bytes);
  std::string_view rest = bytes;
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);
  std::string text;
  if (append_replacing_invalid(rest, text) < rest.size()) text += "\xEF\xBF\xBD";
  return text;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Follows redirects itself, so that every hop is checked.
Result<std::string> download(const std::string& first_url, const ContextOptions& options) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, Freed> curl(ready == CURLE_OK ? curl_easy_init() : nullptr);
  if (curl == nullptr) return error(ErrorCode::kIo, "libcurl does not start");
  const double begin = seconds_now();
  const double deadline = begin + options.timeout_s;
  std::string url = first_url;
  for (int hop = 0; hop <= options.max_redirects; ++hop) {
    TG_RETURN_IF_ERROR(check_url(url));
    Transfer transfer{.max_bytes = options.max_bytes, .body = {}};
    char message[CURL_ERROR_SIZE] = {};
    const double left = std::max(0.001, deadline - seconds_now());
    curl_easy_reset(curl.get());
    curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl.get(), CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(1000.0 * left));
    curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT_MS, 10000L);
    curl_easy_setopt(curl.get(), CURLOPT_USERAGENT, "llama-tg");
    curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, message);
    curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(curl.get(), CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(curl.get(), CURLOPT_OPENSOCKETDATA, &transfer);
    const CURLcode code = curl_easy_perform(curl.get());
    if (transfer.link_local) {
      return error(ErrorCode::kBadArgument, "{} is at a link-local address, which is not allowed",
                   url);
    }
    if (transfer.too_large) {
      return error(ErrorCode::kOutOfCapacity, "more than {} bytes", options.max_bytes);
    }
    if (code == CURLE_OPERATION_TIMEDOUT) {
      return error(ErrorCode::kIo, "not complete after {:.1f} s", seconds_now() - begin);
    }
    if (code != CURLE_OK) {
      return error(ErrorCode::kIo, "{}", *message != '\0' ? message : curl_easy_strerror(code));
    }
    long status = 0;
    curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
    char* target = nullptr;
    curl_easy_getinfo(curl.get(), CURLINFO_REDIRECT_URL, &target);
    if (status >= 300 && status < 400 && target != nullptr) {
      url = target;
      continue;
    }
    if (status != 200) return error(ErrorCode::kIo, "the server answers {}", status);
    char* type = nullptr;
    curl_easy_getinfo(curl.get(), CURLINFO_CONTENT_TYPE, &type);
    return to_utf8(transfer.body, type);
  }
  return error(ErrorCode::kIo, "more than {} redirects", options.max_redirects);
}

// The URL made fit for a file name (without user and password), and a hash (64 bit FNV-1a) of the
// whole of it.
std::string cache_name(const std::string& url) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : url) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  const std::size_t host = url.find("://") + 3;
  const std::size_t at = url.substr(host, url.find_first_of("/?#", host) - host).rfind('@');
  std::string readable = url.substr(at == std::string::npos ? 0 : host + at + 1, 80);
  for (char& c : readable) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return fmt::format("{}-{:016x}.txt", readable, hash);
}

Result<std::string> read_text_file(const fs::path& path, std::int64_t max_bytes) {
  std::error_code failed;
  const std::uintmax_t size = fs::file_size(path, failed);
  if (failed || !fs::is_regular_file(path, failed)) {
    return error(ErrorCode::kNotFound,
                 "no such file (one word with a '.' or '/' in it is taken for one)");
  }
  if (size > static_cast<std::uintmax_t>(max_bytes)) {
    return error(ErrorCode::kOutOfCapacity, "{} bytes, more than {}", size, max_bytes);
  }
  std::ifstream in(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  if (!in) return error(ErrorCode::kIo, "cannot be read");
  return to_utf8(bytes, nullptr);
}

// A cache that cannot be written costs a download next time and nothing else.
void store(const fs::path& path, const std::string& text) {
  std::error_code ignored;
  fs::create_directories(path.parent_path(), ignored);
  static_cast<void>(write_whole_file(path.string(), text));
}

// A word may be a whole text without spaces: as much of it as an error has room for.
std::string shown_word(const std::string& word) {
  constexpr std::size_t kMost = 300;
  if (word.size() <= kMost) return word;
  return word.substr(0, valid_utf8_prefix(std::string_view(word).substr(0, kMost))) + "...";
}

Result<std::string> fetch_url(const std::string& url, const ContextOptions& options) {
  TG_RETURN_IF_ERROR(check_url(url));
  if (options.cache_directory.empty()) return download(url, options);
  const fs::path cached = fs::path(options.cache_directory) / cache_name(url);
  std::error_code ignored;
  if (fs::exists(cached, ignored)) {
    // A byte of a download may have become a U+FFFD of three.
    return read_text_file(cached, 3 * options.max_bytes);
  }
  TG_ASSIGN(std::string text, download(url, options));
  if (!text.empty()) store(cached, text);
  return text;
}

std::string without_outer_space(const std::string& text) {
  constexpr const char* kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

// "http://host/a b" is a URL gone wrong, not a text to be sent to the model.
bool starts_with_scheme(const std::string& text) {
  const std::size_t end = text.find("://");
  if (end == std::string::npos || end == 0) return false;
  return std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(end), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '+' || c == '-' || c == '.';
  });
}

}  // namespace

Result<std::string> fetch_context(const std::string& given, const ContextOptions& options) {
  const std::string context = without_outer_space(given);
  // A name or URL has no NUL, and the system would end it there.
  if (context.find('\0') != std::string::npos) return given;
  const bool is_word = context.find_first_of(" \t\r\n") == std::string::npos;
  const bool is_url = (is_word && context.find("://") != std::string::npos) ||
                      starts_with_scheme(context) || (is_word && context.starts_with("file:"));
  const fs::path file = fs::path(options.base_directory) / context;
  std::error_code ignored;  // of a text that is too long for a name
  const bool is_file = !is_url && ((is_word && context.find_first_of("./") != std::string::npos) ||
                                   fs::is_regular_file(file, ignored));
  if (!is_url && !is_file) return given;
  Result<std::string> text =
      is_url ? fetch_url(context, options) : read_text_file(file, options.max_bytes);
  if (!text) return at_place(std::move(text).error(), shown_word(context));
  return text;
}

}  // namespace tg
