#include "server/page.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <string>

#include "base/result.h"

namespace tg {
namespace {

HttpHeaders page_headers() {
  // No request but to this server, no script but the page's own, whatever a model may answer.
  const std::string policy = fmt::format(
      "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; "
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      inline_hash(kPageHtml, "script"), inline_hash(kPageHtml, "style"));
  // no-cache: a newer program may be there at the next visit.
  return {{"Content-Security-Policy", policy},
          {"Cache-Control", "no-cache"},
          {"X-Content-Type-Options", "nosniff"},
          {"Referrer-Policy", "no-referrer"}};
}

}  // namespace

std::string inline_hash(std::string_view html, std::string_view tag) {
  const std::string opens = fmt::format("<{}>", tag);
  const std::size_t from = html.find(opens) + opens.size();
  const std::size_t to = html.find(fmt::format("</{}>", tag));
  TG_CHECK(from >= opens.size() && to != std::string_view::npos && to >= from);
  std::array<unsigned char, 32> digest{};
  TG_CHECK(EVP_Digest(html.data() + from, to - from, digest.data(), nullptr, EVP_sha256(),
                      nullptr) == 1);
  std::array<unsigned char, 45> base64{};  // 44 and a zero
  EVP_EncodeBlock(base64.data(), digest.data(), static_cast<int>(digest.size()));
  return fmt::format("'sha256-{}'", reinterpret_cast<const char*>(base64.data()));
}

HttpResponse page_response() {
  static const HttpHeaders headers = page_headers();
  return {.content_type = "text/html; charset=utf-8",
          .headers = headers,
          .body = std::string(kPageHtml)};
}

}  // namespace tg
