//! The port Signer on an encrypted key file.
