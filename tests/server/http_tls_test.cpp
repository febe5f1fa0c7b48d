// The same server behind TLS, with a certificate made here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/time.h>

#include <atomic>
#include <cstdio>
#include <memory>

#include "server/http_client.h"
#include "server/http_server.h"

namespace tg {
namespace {

template <typename T, void (*free_it)(T*)>
struct Freed {
  void operator()(T* value) const { free_it(value); }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY, EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509, X509_free>>;

// NAME.key and NAME.crt in the test's directory: an elliptic key, valid for an hour.
class PemFiles {
 public:
  explicit PemFiles(const std::string& name)
      : key_path(::testing::TempDir() + name + ".key"),
        certificate_path(::testing::TempDir() + name + ".crt") {
    const Key key(EVP_EC_gen("P-256"));
    const Certificate certificate(X509_new());
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
    X509_set_pubkey(certificate.get(), key.get());
    X509_NAME* subject = X509_get_subject_name(certificate.get());
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
    X509_set_issuer_name(certificate.get(), subject);
    EXPECT_GT(X509_sign(certificate.get(), key.get(), EVP_sha256()), 0);
    if (std::FILE* file = std::fopen(key_path.c_str(), "w")) {
      PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
      std::fclose(file);
    }
    if (std::FILE* file = std::fopen(certificate_path.c_str(), "w")) {
      PEM_write_X509(file, certificate.get());
      std::fclose(file);
    }
  }
  PemFiles(const PemFiles&) = delete;
  PemFiles& operator=(const PemFiles&) = delete;
  ~PemFiles() {
    std::remove(key_path.c_str());
    std::remove(certificate_path.c_str());
  }

  const std::string key_path;
  const std::string certificate_path;
};

// A blocking client that believes the one certificate only.
class TlsClient {
 public:
  TlsClient(int port, const PemFiles& files) : client_(port) {
    const timeval patience{.tv_sec = 5, .tv_usec = 0};
    ::setsockopt(client_.socket(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    SSL_CTX_load_verify_locations(context_.get(), files.certificate_path.c_str(), nullptr);
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), client_.socket());
    connected_ = SSL_connect(ssl_.get()) == 1;
  }
  bool connected() const { return connected_; }
  bool send(const std::string& bytes) {
    return SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) ==
           static_cast<int>(bytes.size());
  }
  bool wait_for(const std::string& text) {
    while (received_.find(text) == std::string::npos) {
      if (!receive()) return false;
    }
    return true;
  }
  // Whether the server says goodbye before it closes.
  bool wait_for_goodbye() {
    while (receive()) {
    }
    return (SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0;
  }
  const std::string& received() const { return received_; }
  void close() { client_.close(); }

 private:
  bool receive() {
    char buffer[8192];
    const int n = SSL_read(ssl_.get(), buffer, sizeof(buffer));
    if (n > 0) received_.append(buffer, static_cast<std::size_t>(n));
    return n > 0;
  }

  HttpClient client_;
  std::unique_ptr<SSL_CTX, Freed<SSL_CTX, SSL_CTX_free>> context_{SSL_CTX_new(TLS_client_method())};
  std::unique_ptr<SSL, Freed<SSL, SSL_free>> ssl_;
  bool connected_ = false;
  std::string received_;
};

HttpOptions tls_options(const PemFiles& files) {
  HttpOptions options;
  options.tls_certificate = files.certificate_path;
  options.tls_key = files.key_path;
  options.header_timeout_s = 0.5;
  return options;
}

TEST(HttpTls, AnswersStreamsAndLongBodies) {
  const PemFiles files("http_tls_a");
  HeldExchanges held;
  const auto server =
      start_http(tls_options(files), [&](const HttpRequest& request, auto exchange) {
        if (request.path == "/stream") return held.handler()(request, std::move(exchange));
        echo_request(request, exchange);
      });
  TlsClient client(server->port(), files);
  ASSERT_TRUE(client.connected()) << ERR_error_string(ERR_get_error(), nullptr);
  const std::string body(300000, 'b');
  ASSERT_TRUE(
      client.send("POST /long HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n" + body));
  EXPECT_TRUE(client.wait_for("POST /long? " + body));
  ASSERT_TRUE(client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n"));
  const auto stream = held.next();
  stream->start_stream({});
  for (const std::string piece : {"one", "two"}) {
    ASSERT_TRUE(stream->write(piece));
    EXPECT_TRUE(client.wait_for("3\r\n" + piece + "\r\n"));
  }
  stream->finish();
  EXPECT_TRUE(client.wait_for("0\r\n\r\n"));
  ASSERT_TRUE(client.send("GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
  EXPECT_TRUE(client.wait_for("GET /last? "));
  EXPECT_TRUE(client.wait_for_goodbye());
}

TEST(HttpTls, SeesAHangUpInAStream) {
  const PemFiles files("http_tls_b");
  HeldExchanges held;
  const auto server = start_http(tls_options(files), held.handler());
  TlsClient client(server->port(), files);
  ASSERT_TRUE(client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
  const auto stream = held.next();
  std::atomic<bool> gone = false;
  stream->on_gone([&] { gone = true; });
  stream->start_stream({.body = "begun"});
  ASSERT_TRUE(client.wait_for("begun"));
  client.close();
  EXPECT_TRUE(becomes_true([&] { return gone && server->connections() == 0; }));
}

TEST(HttpTls, ClosesOnThoseWhoSpeakNoTls) {
  const PemFiles files("http_tls_c");
  const auto server = start_http(tls_options(files), echo_request);
  HttpClient plain(server->port());
  ASSERT_TRUE(plain.get("/"));
  EXPECT_TRUE(plain.wait_for_end());
  HttpClient silent(server->port());  // a handshake has as long as a header
  EXPECT_TRUE(silent.wait_for_end(2.0));
  EXPECT_TRUE(becomes_true([&] { return server->connections() == 0; }));
  TlsClient client(server->port(), files);
  ASSERT_TRUE(client.send("GET /alive HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_TRUE(client.wait_for("GET /alive? "));
}

TEST(HttpTls, RefusesAKeyOfAnotherCertificate) {
  const PemFiles one("http_tls_d");
  const PemFiles other("http_tls_e");
  const auto server = HttpServer::listen(
      {.port = 0, .tls_certificate = one.certificate_path, .tls_key = other.key_path});
  ASSERT_FALSE(server.has_value());
  EXPECT_EQ(server.error().code, ErrorCode::kBadArgument);
  EXPECT_THAT(server.error().message, testing::HasSubstr("http_tls_e.key"));
}

}  // namespace
}  // namespace tg
