//! The ceremony: the intermediate's CSR, and a throw-away root for development alone. Offline.

