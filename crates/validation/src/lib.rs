//! The port Validator: http-01, dns-01, tls-alpn-01.
