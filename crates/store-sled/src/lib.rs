//! The store of one process: a synced journal, with sled as its index.
